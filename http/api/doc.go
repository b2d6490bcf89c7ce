// Package api holds the JSON types of the HTTP API under /v1 and nothing else. Server, client, command line and the
// agent's wiring share it, so that a field has one name and one meaning everywhere.
//
// Names are snake_case, sizes are bytes, times are RFC 3339 in UTC, UUIDs are lower case. Fields are only ever added.
package api
