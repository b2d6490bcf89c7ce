package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/holdfast-io/holdfast/cluster/transport"
)

var (
	// ErrWrongCluster means that the address answers for another cluster than the token was made for, or that somebody
	// sits in between.
	ErrWrongCluster error = &codedError{"wrong_cluster", "the address does not belong to the cluster that made the token"}
	// ErrGrant means that the member's answer does not hold together.
	ErrGrant error = &codedError{"bad_grant", "the member's answer cannot be used"}
)

// Joiner asks a member to let this host in.
type Joiner struct {
	Network transport.Network // nil: TCP
	// Key is the new host's key. A retry after a lost answer must use the same one.
	Key *ecdsa.PrivateKey
}

// Join exchanges the token for a certificate. It may be retried with the same key until it succeeds or says that the
// token is of no use.
func (j *Joiner) Join(ctx context.Context, address string, tok Token, host HostInfo) (Grant, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: host.Name}}, j.Key)
	if err != nil {
		return Grant{}, fmt.Errorf("making a certificate request: %w", err)
	}
	body, err := json.Marshal(request{
		TokenID: tok.ID, CSR: csr, MAC: requestMAC(HashSecret(tok.Secret), csr), Host: host})
	if err != nil {
		return Grant{}, fmt.Errorf("encoding the join request: %w", err)
	}
	var g Grant
	if err := j.post(ctx, address, tok.CAHash, body, &g); err != nil {
		return Grant{}, fmt.Errorf("joining through %s: %w", address, err)
	}
	if err := j.checkGrant(g, tok, host.Name); err != nil {
		return Grant{}, fmt.Errorf("joining through %s: %w", address, err)
	}
	return g, nil
}

func (j *Joiner) post(ctx context.Context, address, caHash string, body []byte, out *Grant) error {
	network := j.Network
	if network == nil {
		network = transport.TCP{}
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	rt := &http.Transport{DisableKeepAlives: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return transport.DialJoin(ctx, network, address, pinned(caHash))
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://member"+Path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making the join request: %w", err)
	}
	resp, err := rt.RoundTrip(req)
	switch {
	case errors.Is(err, ErrWrongCluster), errors.Is(err, transport.ErrUnreachable):
		return err
	case err != nil:
		return fmt.Errorf("%w; the same join may be tried again: %w", transport.ErrOutcomeUnknown, err)
	}
	defer resp.Body.Close()
	return transport.ReadAnswer(address, resp, out)
}

// pinned accepts a server whose chain holds the CA with the given hash, and only if that CA signed it as a host.
func pinned(caHash string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         transport.MemberName,
		InsecureSkipVerify: true, // no CA is known yet; VerifyConnection does the whole check against the pinned hash
		VerifyConnection: func(cs tls.ConnectionState) error {
			for _, cert := range cs.PeerCertificates[1:] {
				if certHash(cert) == caHash && cert.IsCA {
					return verifyHost(cs.PeerCertificates[0], cert, transport.MemberName, x509.ExtKeyUsageServerAuth)
				}
			}
			return ErrWrongCluster
		},
	}
}

func verifyHost(cert, ca *x509.Certificate, dnsName string, usage x509.ExtKeyUsage) error {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	chains, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: dnsName, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWrongCluster, err)
	}
	_, err = transport.PeerHost(tls.ConnectionState{VerifiedChains: chains, PeerCertificates: []*x509.Certificate{cert}})
	return err
}

// checkGrant makes sure that what the member sent belongs together before anything of it is stored.
func (j *Joiner) checkGrant(g Grant, tok Token, name string) error {
	ca, err := ParseCA(g.CACert, g.CAKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGrant, err)
	}
	if ca.Hash() != tok.CAHash {
		return fmt.Errorf("%w: %w", ErrGrant, ErrWrongCluster)
	}
	cert, err := parseCert(g.Cert)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGrant, err)
	}
	if err := verifyHost(cert, ca.cert, name, x509.ExtKeyUsageClientAuth); err != nil {
		return fmt.Errorf("%w: %w", ErrGrant, err)
	}
	if !j.Key.PublicKey.Equal(cert.PublicKey) || g.HostID < 1 {
		return fmt.Errorf("%w: the certificate is not for this host's key", ErrGrant)
	}
	return nil
}
