package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"net/http"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// members lets in whom the cluster's CA or a token vouches for, but no host that was a member and is one no more: its
// certificate outlives its membership.
type members struct {
	httpapi.Authenticator
	backend *backend
}

// Authenticate implements httpapi.Authenticator.
func (m members) Authenticate(r *http.Request) (httpapi.Identity, error) {
	id, err := m.Authenticator.Authenticate(r)
	if err != nil || r.TLS == nil {
		return id, err
	}
	name, err := transport.PeerHost(*r.TLS)
	if err != nil {
		return id, nil // a token's holder, or a person with a certificate
	}
	st, err := m.backend.state()
	if err != nil {
		return httpapi.Identity{}, err
	}
	if hasLeft(st, name, r.TLS.PeerCertificates[0]) {
		return httpapi.Identity{}, api.Errorf(api.CodeUnauthorized, "join the cluster again, or present a bearer token",
			"host %s is not a member of the cluster any more, and its certificate is worth nothing", name)
	}
	return id, nil
}

// hasLeft says whether the certificate is from a membership that ended: the host is gone, or came back with another key.
// Renewals keep the key. A host that this replica does not know yet may have joined a moment ago.
func hasLeft(st *fsm.State, name string, cert *x509.Certificate) bool {
	h, member := st.Hosts.Get(name)
	if !member {
		return st.Removed.Has(name)
	}
	if h.KeyHash == "" { // it made the cluster
		return false
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return true
	}
	hash, err := join.KeyHash(key)
	return err != nil || hash != h.KeyHash
}
