package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
)

// Cluster is what a member needs of the cluster to let a host in.
type Cluster interface {
	// Token finds a token, asking the leader when this host does not know it yet.
	Token(ctx context.Context, id string) (fsm.Token, bool, error)
	// Admit commits the new host and the use of the token.
	Admit(ctx context.Context, c *fsm.HostJoin) (fsm.Outcome, error)
	// Welcome fills in what every new host gets: cluster, gossip key, peers.
	Welcome() (Grant, error)
}

// Member answers join requests on a host that is in the cluster.
type Member struct {
	CA      *CA
	Cluster Cluster
	Now     func() time.Time
	Log     *slog.Logger
}

const (
	maxRequest  = 64 << 10
	joinTimeout = 15 * time.Second
)

// ServeHTTP answers one request.
func (m *Member) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), joinTimeout)
	defer cancel()
	var req request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&req); err != nil {
		transport.WriteError(w, fmt.Errorf("join request: %w: %w", fsm.ErrInvalid, err))
		return
	}
	grant, err := m.admit(ctx, req)
	if err != nil {
		m.Log.Warn("join refused", "host", req.Host.Name, "token", req.TokenID, "remote", r.RemoteAddr, "error", err)
		transport.WriteError(w, err)
		return
	}
	m.Log.Info("host joined", "host", req.Host.Name, "host_id", grant.HostID, "token", req.TokenID, "remote", r.RemoteAddr)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(grant) // a joiner that is gone asks again with the same key
}

func (m *Member) admit(ctx context.Context, req request) (Grant, error) {
	pub, err := m.check(ctx, req)
	if err != nil {
		return Grant{}, err
	}
	cert, err := m.CA.HostCert(pub, req.Host.Name, []string{req.Host.Address, req.Host.HTTP}, m.Now())
	if err != nil {
		return Grant{}, err
	}
	keyHash, err := KeyHash(pub)
	if err != nil {
		return Grant{}, err
	}
	h := req.Host
	out, err := m.Cluster.Admit(ctx, &fsm.HostJoin{
		TokenID: req.TokenID,
		Time:    m.Now().UnixNano(),
		Host: fsm.Host{Name: h.Name, Address: h.Address, Gossip: h.Gossip, HTTP: h.HTTP,
			Priority: h.Priority, Protocol: h.Protocol, KeyHash: keyHash},
	})
	if err != nil {
		return Grant{}, fmt.Errorf("letting host %s in: %w", h.Name, err)
	}
	return m.grant(cert, out.HostID)
}

// check makes sure that the request comes from somebody who knows the token's secret.
func (m *Member) check(ctx context.Context, req request) (*ecdsa.PublicKey, error) {
	tok, found, err := m.Cluster.Token(ctx, req.TokenID)
	if err != nil {
		return nil, fmt.Errorf("looking for the token: %w", err)
	}
	// With an unknown token the MAC is compared all the same, so that the time taken says nothing about it.
	if !hmac.Equal(req.MAC, requestMAC(tok.SecretHash, req.CSR)) || !found || tok.Role != fsm.TokenJoin {
		return nil, fmt.Errorf("host %q: %w", req.Host.Name, errTokenWrong)
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w: %w", fsm.ErrInvalid, err)
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if err := csr.CheckSignature(); err != nil || !ok || csr.Subject.CommonName != req.Host.Name {
		return nil, fmt.Errorf("certificate request: %w: it is not signed by the key of host %q", fsm.ErrInvalid, req.Host.Name)
	}
	return pub, errors.Join(fsm.CheckHostName(req.Host.Name), fsm.CheckPriority(req.Host.Priority))
}

var errTokenWrong error = &codedError{string(fsm.CodeTokenUnknown), "the token is not known to this cluster, or its secret is wrong; ask for a new one"}

func (m *Member) grant(cert []byte, hostID int) (Grant, error) {
	key, err := m.CA.KeyPEM()
	if err != nil {
		return Grant{}, err
	}
	g, err := m.Cluster.Welcome()
	if err != nil {
		return Grant{}, err
	}
	g.HostID, g.Cert, g.CACert, g.CAKey = hostID, cert, m.CA.CertPEM(), key
	return g, nil
}
