package httpapi_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"testing"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
)

// asRole is an authenticator with one answer.
type asRole string

func (a asRole) Authenticate(*http.Request) (httpapi.Identity, error) {
	return httpapi.Identity{Name: "somebody", Role: string(a)}, nil
}

// oneToken knows one token of each role.
type oneToken struct{}

func (oneToken) VerifyToken(_ context.Context, s string) (httpapi.Identity, error) {
	if s == api.RoleAdmin || s == api.RoleRead {
		return httpapi.Identity{Name: "token " + s, Role: s}, nil
	}
	return httpapi.Identity{}, api.Errorf(api.CodeUnauthorized, "", "no such token")
}

func certificate(unit string) func(*http.Request) {
	return func(r *http.Request) {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "somebody", OrganizationalUnit: []string{unit}}}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
	}
}

func bearer(s string) func(*http.Request) {
	return func(r *http.Request) { r.TLS = &tls.ConnectionState{}; r.Header.Set("Authorization", "Bearer "+s) }
}

func TestCertificateOrToken(t *testing.T) {
	t.Parallel()
	h := httpapi.New(httpapi.Config{}, apitest.New().Backend()).For(httpapi.CertificateOrToken(oneToken{}))
	for name, tc := range map[string]struct {
		with        func(*http.Request)
		read, write string // codes; empty is allowed
	}{
		"nothing":             {func(*http.Request) {}, api.CodeUnauthorized, api.CodeUnauthorized},
		"host certificate":    {certificate(httpapi.HostUnit), "", ""},
		"admin certificate":   {certificate(api.RoleAdmin), "", ""},
		"read certificate":    {certificate(api.RoleRead), "", api.CodeForbidden},
		"certificate of none": {certificate("sales"), api.CodeForbidden, api.CodeForbidden},
		"admin token":         {bearer(api.RoleAdmin), "", ""},
		"read token":          {bearer(api.RoleRead), "", api.CodeForbidden},
		"join token":          {bearer(api.RoleJoin), api.CodeUnauthorized, api.CodeUnauthorized},
		"empty token":         {bearer(""), api.CodeUnauthorized, api.CodeUnauthorized},
		"unverified certificate": {func(r *http.Request) {
			certificate(api.RoleAdmin)(r)
			r.TLS.VerifiedChains = nil
		}, api.CodeUnauthorized, api.CodeUnauthorized},
		"role in a header": {func(r *http.Request) { r.Header.Set(api.HeaderRole, api.RoleAdmin) }, api.CodeUnauthorized, api.CodeUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJudge(t, h)
			for method, code := range map[string]string{"GET": tc.read, "DELETE": tc.write} {
				path := map[string]string{"GET": "/v1/hosts", "DELETE": "/v1/operator/tokens/k7x2"}[method]
				r := request(t, method, path, nil)
				tc.with(r)
				resp := j.send(t, r)
				if code != "" {
					wantCode(t, resp, code)
				} else if resp.StatusCode >= 400 {
					t.Errorf("%s answers %d", method, resp.StatusCode)
				}
			}
		})
	}
}

// Every route but /healthz asks who is there.
func TestHandler_onlyHealthIsOpen(t *testing.T) {
	t.Parallel()
	j := newJudge(t, httpapi.New(httpapi.Config{}, apitest.New().Backend()).For(httpapi.CertificateOrToken(nil)))
	for _, tc := range everyRoute {
		resp := j.send(t, request(t, tc.method, tc.path, tc.body))
		if open := resp.StatusCode < 400; open != (tc.path == "/healthz") {
			t.Errorf("%s %s answers %d", tc.method, tc.path, resp.StatusCode)
		}
	}
}

// A web page cannot reach the plain loopback API under a name of its own.
func TestLocal_foreignHostName(t *testing.T) {
	t.Parallel()
	j, _ := local(t)
	for host, ok := range map[string]bool{
		"localhost:7": true, "127.0.0.1:7": true, "[::1]:7": true, httpapi.UnixHost: true, "evil.example": false, "localhost.evil.example:80": false,
	} {
		r := request(t, "GET", "/v1/hosts", nil)
		r.Host = host
		if resp := j.send(t, r); (resp.StatusCode == http.StatusOK) != ok {
			t.Errorf("%s answers %d", host, resp.StatusCode)
		}
	}
}

func TestPeers_needARole(t *testing.T) {
	t.Parallel()
	j := newJudge(t, httpapi.New(httpapi.Config{}, apitest.New().Backend()).For(httpapi.Peers()))
	wantCode(t, j.send(t, request(t, "GET", "/v1/hosts", nil)), api.CodeForbidden)
}
