package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
)

// Files of a host's identity, in one directory.
const (
	CACertFile   = "ca.crt"
	CAKeyFile    = "ca.key"
	HostCertFile = "host.crt"
	HostKeyFile  = "host.key"
)

const (
	// MemberName is a DNS name in every host's certificate, so that a host can be checked as a member of the cluster
	// when its own name is not known.
	MemberName = "member.holdfast.internal"
	// HostUnit is the organisational unit of a host's certificate.
	HostUnit = "host"
)

// ErrNotMember means that the peer's certificate is not one of a member host.
var ErrNotMember = errors.New("peer is not a host of this cluster")

// Certs is a host's certificate and the cluster's CA. It can be reloaded while in use: new connections see the new one.
type Certs struct {
	dir     string
	current atomic.Pointer[identity]
}

type identity struct {
	pair  tls.Certificate
	roots *x509.CertPool
}

// LoadCerts reads the identity in dir.
func LoadCerts(dir string) (*Certs, error) {
	c := &Certs{dir: dir}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the files again. When they are not readable, the old identity stays in use.
func (c *Certs) Reload() error {
	caPEM, err := os.ReadFile(filepath.Join(c.dir, CACertFile))
	if err != nil {
		return fmt.Errorf("reading the cluster's CA: %w", err)
	}
	certPEM, err := os.ReadFile(filepath.Join(c.dir, HostCertFile))
	if err != nil {
		return fmt.Errorf("reading the host's certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(c.dir, HostKeyFile))
	if err != nil {
		return fmt.Errorf("reading the host's key: %w", err)
	}
	// The CA goes along with the leaf, so that a joiner that knows only its hash can check the chain.
	pair, err := tls.X509KeyPair(bytes.Join([][]byte{certPEM, caPEM}, []byte("\n")), keyPEM)
	if err != nil {
		return fmt.Errorf("host certificate in %s: %w", c.dir, err)
	}
	id := &identity{pair: pair, roots: x509.NewCertPool()}
	if !id.roots.AppendCertsFromPEM(caPEM) {
		return fmt.Errorf("%s: no certificate in it", filepath.Join(c.dir, CACertFile))
	}
	c.current.Store(id)
	return nil
}

// Leaf is the host's certificate now in use.
func (c *Certs) Leaf() *x509.Certificate { return c.current.Load().pair.Leaf }

// Roots is the pool with the cluster's CA.
func (c *Certs) Roots() *x509.CertPool { return c.current.Load().roots }

// Server is a TLS configuration for listening. Client certificates are asked for and, when given, checked.
func (c *Certs) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			id := c.current.Load()
			return &tls.Config{
				MinVersion:             tls.VersionTLS13,
				Certificates:           []tls.Certificate{id.pair},
				ClientCAs:              id.roots,
				ClientAuth:             tls.VerifyClientCertIfGiven,
				SessionTicketsDisabled: true, // a resumed session would outlive a removed CA
			}, nil
		},
	}
}

// Client is a TLS configuration for one connection to a member. host may be empty when its name is not known.
func (c *Certs) Client(host string) *tls.Config {
	id := c.current.Load()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{id.pair},
		RootCAs:      id.roots,
		ServerName:   MemberName,
		VerifyConnection: func(cs tls.ConnectionState) error {
			name, err := PeerHost(cs)
			if err == nil && host != "" && name != host {
				err = fmt.Errorf("%w: wanted %s, its certificate says %s", ErrNotMember, host, name)
			}
			return err
		},
	}
}

// PeerHost is the name of the host at the other end of a connection whose chain was verified.
func PeerHost(cs tls.ConnectionState) (string, error) {
	if len(cs.VerifiedChains) == 0 {
		return "", fmt.Errorf("%w: it showed no certificate of the cluster's CA", ErrNotMember)
	}
	subject := cs.PeerCertificates[0].Subject
	for _, unit := range subject.OrganizationalUnit {
		if unit == HostUnit && subject.CommonName != "" {
			return subject.CommonName, nil
		}
	}
	return "", fmt.Errorf("%w: the certificate of %q is not a host's", ErrNotMember, subject.CommonName)
}
