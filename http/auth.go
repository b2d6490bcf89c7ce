package httpapi

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

// Identity is a caller.
type Identity struct {
	Name string
	Role string // api.RoleAdmin or api.RoleRead
	Peer bool   // another agent that passes a request on
}

// may reports whether the identity may use the method.
func (id Identity) may(method string) bool {
	switch id.Role {
	case api.RoleAdmin:
		return true
	case api.RoleRead:
		return method == http.MethodGet || method == http.MethodHead
	}
	return false
}

// Authenticator finds out who calls. Its errors should be *api.Error.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// TokenVerifier finds the identity behind a bearer token.
type TokenVerifier interface {
	VerifyToken(ctx context.Context, token string) (Identity, error)
}

// Local is for listeners that only trusted people reach: a unix socket of mode 0600, or loopback in dev mode. Every
// caller is admin.
func Local(name string) Authenticator { return local{name: name} }

type local struct{ name string }

// Authenticate lets everybody in, except a web page that was talked into calling loopback under another name.
func (l local) Authenticate(r *http.Request) (Identity, error) {
	if r.TLS == nil && !localHost(r.Host) {
		return Identity{}, api.Errorf(api.CodeForbidden, "use the address 127.0.0.1 or localhost",
			"host %q is not a local name", r.Host)
	}
	return Identity{Name: l.name, Role: api.RoleAdmin}, nil
}

func localHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "" || host == "localhost" || host == UnixHost {
		return true
	}
	return net.ParseIP(host) != nil
}

// UnixHost is the host name a client writes into requests that it sends over a unix socket.
const UnixHost = "holdfast.sock"

// CertificateOrToken is for the TLS listener: a client certificate of the cluster's CA, or a bearer token.
func CertificateOrToken(tokens TokenVerifier) Authenticator { return certOrToken{tokens: tokens} }

type certOrToken struct{ tokens TokenVerifier }

// Authenticate prefers the certificate; the role is its organizational unit.
func (a certOrToken) Authenticate(r *http.Request) (Identity, error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return fromCertificate(r.TLS.VerifiedChains[0][0])
	}
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || secret == "" || a.tokens == nil {
		return Identity{}, api.Errorf(api.CodeUnauthorized,
			"present a client certificate of the cluster's CA or a bearer token (holdfast operator token create)",
			"no client certificate and no bearer token")
	}
	return a.tokens.VerifyToken(r.Context(), strings.TrimSpace(secret))
}

// HostUnit is the organizational unit in the certificates of hosts, which are administrators of each other.
const HostUnit = "host"

func fromCertificate(c *x509.Certificate) (Identity, error) {
	for _, unit := range c.Subject.OrganizationalUnit {
		switch unit {
		case HostUnit, api.RoleAdmin:
			return Identity{Name: c.Subject.CommonName, Role: api.RoleAdmin}, nil
		case api.RoleRead:
			return Identity{Name: c.Subject.CommonName, Role: api.RoleRead}, nil
		}
	}
	return Identity{}, api.Errorf(api.CodeForbidden, "use a certificate whose organizational unit is admin or read",
		"certificate of %q names no role", c.Subject.CommonName)
}

// Peers is for requests that another member passed on over the cluster's TLS, which has checked who that is. The
// member says on whose behalf it asks.
func Peers() Authenticator { return peers{} }

type peers struct{}

// Authenticate believes the passing member.
func (peers) Authenticate(r *http.Request) (Identity, error) {
	id := Identity{Name: r.Header.Get(api.HeaderUser), Role: r.Header.Get(api.HeaderRole), Peer: true}
	if id.Role != api.RoleAdmin && id.Role != api.RoleRead {
		return Identity{}, api.Errorf(api.CodeForbidden, "", "passed-on request names no role")
	}
	return id, nil
}
