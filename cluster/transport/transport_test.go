package transport_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/transport"
)

func newCA(t *testing.T) *join.CA {
	t.Helper()
	ca, err := join.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// identity writes a host's files.
func identity(t *testing.T, ca *join.CA, name string) string {
	t.Helper()
	dir := t.TempDir()
	writeIdentity(t, ca, dir, name)
	return dir
}

func writeIdentity(t *testing.T, ca *join.CA, dir, name string) {
	t.Helper()
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.HostCert(&key.PublicKey, name, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := join.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{
		transport.CACertFile: ca.CertPEM(), transport.HostCertFile: cert, transport.HostKeyFile: keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func certs(t *testing.T, dir string) *transport.Certs {
	t.Helper()
	c, err := transport.LoadCerts(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve runs a server named "srv" for the time of the test.
func serve(t *testing.T, ca *join.CA, prepare func(*transport.Server), allow func(string) error) (address string, c *transport.Certs) {
	t.Helper()
	c = certs(t, identity(t, ca, "srv"))
	s, err := transport.NewServer(transport.ServerConfig{
		Listen: "127.0.0.1:0", Certs: c, Allow: allow, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	prepare(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String(), c
}

func client(t *testing.T, c *transport.Certs, address string) *transport.Client {
	t.Helper()
	cl := transport.NewClient(transport.ClientConfig{Certs: c, Resolve: func(string) (string, error) { return address, nil }})
	t.Cleanup(cl.Close)
	return cl
}

type detailed struct{ Holder string }

func (e *detailed) Error() string     { return "held by " + e.Holder }
func (e *detailed) ErrorCode() string { return "held" }
func (e *detailed) ErrorDetail() any  { return e }

func TestCall_valuesErrorsAndDetails(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	address, _ := serve(t, ca, func(s *transport.Server) {
		s.Handle("echo", func(_ context.Context, from string, body []byte) (any, error) {
			return from + " " + string(body), nil
		})
		s.Handle("held", func(context.Context, string, []byte) (any, error) {
			return nil, fmt.Errorf("refused: %w", &detailed{"h7"})
		})
		s.Handle("deadline", func(ctx context.Context, _ string, _ []byte) (any, error) {
			d, _ := ctx.Deadline()
			return time.Until(d) < 3*time.Second, nil
		})
	}, nil)
	c := client(t, certs(t, identity(t, ca, "cli")), address)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var got string
	if err := c.Call(ctx, "srv", "echo", map[string]int{"a": 1}, &got); err != nil || got != `cli {"a":1}` {
		t.Errorf("echo: %q, %v", got, err)
	}
	var remote *transport.RemoteError
	err := c.Call(ctx, "srv", "held", nil, nil)
	var d detailed
	if !errors.As(err, &remote) || remote.Code != "held" || json.Unmarshal(remote.Detail, &d) != nil || d.Holder != "h7" {
		t.Errorf("held: %v", err)
	}
	if !errors.Is(err, &detailed{}) {
		t.Error("the code of the error did not travel")
	}
	if err := c.Call(ctx, "srv", "nothing", nil, nil); !errors.Is(err, transport.ErrNoMethod) {
		t.Errorf("unknown method: %v", err)
	}
	var short bool
	if err := c.Call(ctx, "srv", "deadline", nil, &short); err != nil || !short {
		t.Errorf("the deadline did not travel: %v %v", short, err)
	}
	if err := c.Call(ctx, "other", "echo", nil, nil); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("a server of another name answered: %v", err)
	}
}

func TestCall_unreachableOrUnknown(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	entered, release := make(chan struct{}), make(chan struct{})
	address, _ := serve(t, ca, func(s *transport.Server) {
		s.Handle("hang", func(ctx context.Context, _ string, _ []byte) (any, error) {
			close(entered)
			<-release
			return nil, nil
		})
	}, nil)
	defer close(release)
	me := certs(t, identity(t, ca, "cli"))
	if err := client(t, me, "127.0.0.1:1").Call(context.Background(), "srv", "x", nil, nil); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("closed port: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-entered; cancel() }()
	err := client(t, me, address).Call(ctx, "srv", "hang", nil, nil)
	if !errors.Is(err, transport.ErrOutcomeUnknown) || errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("given up after it was sent: %v", err)
	}
}

func TestServer_strangersAreRefused(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	address, _ := serve(t, ca, func(s *transport.Server) {
		s.Handle("x", func(context.Context, string, []byte) (any, error) { return 1, nil })
	}, func(host string) error {
		if host == "removed" {
			return transport.ErrNotMember
		}
		return nil
	})
	call := func(dir string) error {
		return client(t, certs(t, dir), address).Call(context.Background(), "srv", "x", nil, nil)
	}
	if err := call(identity(t, ca, "member")); err != nil {
		t.Errorf("member: %v", err)
	}
	if err := call(identity(t, ca, "removed")); err == nil {
		t.Error("a removed host was let in")
	}
	if err := call(identity(t, newCA(t), "member")); err == nil {
		t.Error("a host of another cluster was let in")
	}
	admin := identity(t, ca, "member")
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.ClientCert(&key.PublicKey, "admin", "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, _ := join.KeyPEM(key)
	if err := errors.Join(os.WriteFile(filepath.Join(admin, transport.HostCertFile), cert, 0o600),
		os.WriteFile(filepath.Join(admin, transport.HostKeyFile), keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := call(admin); err == nil {
		t.Error("an API client was let in")
	}
	if _, err := ca.ClientCert(&key.PublicKey, "x", transport.HostUnit, time.Now()); err == nil {
		t.Error("a client certificate with the host role was signed")
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestCerts_reload(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	dir := identity(t, ca, "h")
	c := certs(t, dir)
	before := c.Leaf().SerialNumber
	if err := os.WriteFile(filepath.Join(dir, transport.HostCertFile), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(); err == nil || c.Leaf().SerialNumber.Cmp(before) != 0 {
		t.Error("rubbish was taken")
	}
	writeIdentity(t, ca, dir, "h")
	if err := c.Reload(); err != nil || c.Leaf().SerialNumber.Cmp(before) == 0 {
		t.Errorf("the new certificate was not taken: %v", err)
	}
}

func TestRoundTripper_forwardsRequests(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	address, _ := serve(t, ca, func(s *transport.Server) {
		s.HandleHTTP("/v1/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			from, _ := transport.From(r.Context())
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprint(w, from, " ", r.Method, " ", r.URL)
		}))
	}, nil)
	c := client(t, certs(t, identity(t, ca, "cli")), address)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, "http://wherever/v1/a?b=c", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.RoundTripper("srv").RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusTeapot || string(body) != "cli PUT /v1/a?b=c" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestRaftStream_isolate(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	var stream *transport.RaftStream
	address, _ := serve(t, ca, func(s *transport.Server) { stream = s.Raft() }, nil)
	other, err := transport.NewServer(transport.ServerConfig{Listen: "127.0.0.1:0",
		Certs: certs(t, identity(t, ca, "b")), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	accepted := make(chan net.Conn, 2)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := stream.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() (net.Conn, error) { return other.Raft().Dial(raft.ServerAddress(address), time.Second) }
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	there := <-accepted
	stream.Isolate(true)
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the cut")
	}
	if _, err := there.Write([]byte("x")); err == nil {
		t.Error("the cut host still writes")
	}
	if _, err := stream.Dial(raft.ServerAddress(other.Addr().String()), time.Second); !errors.Is(err, transport.ErrIsolated) {
		t.Errorf("the cut host dialled: %v", err)
	}
	stream.Isolate(false)
	again, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	_ = errors.Join((<-accepted).Close(), again.Close(), conn.Close(), there.Close())
	_ = stream.Close()
	<-ended
}
