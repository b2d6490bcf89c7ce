// Package httpapi serves the HTTP API of an agent under /v1, with /healthz and /metrics beside it.
//
// It knows who may call (Authenticator), what a request looks like (openapi.yaml, enforced by the tests) and where it
// has to run (Forwarder); what it means is the business of the roles in Backend, which the agent's wiring implements
// in terms of the types of package api. Errors that carry an *api.Error reach the caller as they are, others become
// "internal" and are logged.
//
// Before a host is a member of a cluster only some roles exist; the others answer not_member until Use swaps in the
// complete Backend.
package httpapi
