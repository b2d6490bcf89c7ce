package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// Three agents as on real machines: TLS everywhere, and nobody gets in without being let in.
func TestAgents_secure(t *testing.T) {
	p := newAgentPool(t, 3, newLUN(t, 32*gib), nil)
	s := &secured{agentPool: p, ca: clusterCA(t, p.agents[0].conf.DataDir)}
	for _, a := range p.agents {
		s.cert = append(s.cert, hostCertificate(t, a))
	}
	s.admin, s.reader = token(t, p.agents[0], api.RoleAdmin), token(t, p.agents[0], api.RoleRead)
	t.Run("together", func(t *testing.T) {
		for name, f := range map[string]func(*testing.T){
			"credentials":          s.credentials,
			"strange certificates": s.strangeCertificates,
			"readers read":         s.readersRead,
			"tokens end":           s.tokensEnd,
			"plain HTTP":           s.plainHTTP,
			"cluster port":         s.clusterPort,
			"gossip port":          s.gossipPort,
			"files":                s.files,
			"any host":             s.anyHost,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f(t)
			})
		}
	})
	t.Run("nothing in the clear", s.nothingInTheClear)
	t.Run("leave and come back", s.leaveAndComeBack)
	for _, a := range p.agents {
		a.alive(t)
	}
}

// secured is a pool and everything that opens its doors.
type secured struct {
	*agentPool
	ca            *x509.CertPool
	cert          []tls.Certificate
	admin, reader string
}

func hostCertificate(t *testing.T, a *testAgent) tls.Certificate {
	t.Helper()
	dir := filepath.Join(a.conf.DataDir, "cluster")
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "host.crt"), filepath.Join(dir, "host.key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// api is a client of the i-th agent with a certificate, or none.
func (s *secured) api(t *testing.T, i int, token string, cert ...tls.Certificate) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Address: "https://" + s.agents[i].conf.HTTP.Listen, Token: token, Timeout: 60 * time.Second,
		TLS: showing(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: s.ca}, cert)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// showing makes a client show its certificate whatever CAs the server names; Go's own choice would be to keep it.
func showing(c *tls.Config, cert []tls.Certificate) *tls.Config {
	if len(cert) > 0 {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert[0], nil }
	}
	return c
}

// Every host knows a certificate and a token, wherever they were made, and nobody else.
func (s *secured) credentials(t *testing.T) {
	ctx := deadline(t, 30*time.Second)
	for i := range s.agents {
		_, _, err := s.api(t, i, "").Status(ctx, client.Read{})
		wantCode(t, err, api.CodeUnauthorized)
		if _, _, err := s.api(t, i, "", s.cert[(i+1)%3]).Status(ctx, client.Read{}); err != nil {
			t.Errorf("the certificate of another host: %v", err)
		}
		if err := poll(ctx, "the token is known", func() error {
			_, _, err := s.api(t, i, s.admin).Status(ctx, client.Read{})
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	parts := strings.Split(s.admin, ".")
	for name, bad := range map[string]string{
		"wrong secret": parts[0] + "." + strings.Repeat("A", len(parts[1])) + strings.TrimPrefix(s.admin, parts[0]+"."+parts[1]),
		"wrong id":     "x" + s.admin, "id alone": parts[0], "long": strings.Repeat("a", 4000), "odd": "\xff\xfe", "join": token(t, s.agents[0], api.RoleJoin),
	} {
		if _, _, err := s.api(t, 1, bad).Status(ctx, client.Read{}); err == nil {
			t.Errorf("a token with %s was taken", name)
		} else if name != "odd" {
			wantCode(t, err, api.CodeUnauthorized)
		}
	}
}

// The refusal is a problem document, whatever was asked, and tells nothing about the pool.
func (s *secured) plainHTTP(t *testing.T) {
	for _, a := range s.agents {
		conn, err := net.Dial("tcp", a.conf.HTTP.Listen)
		if err != nil {
			t.Fatal(err)
		}
		answer := exchange(t, conn, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if strings.Contains(answer, "200 OK") || strings.Contains(answer, "pool") {
			t.Errorf("plain HTTP was answered: %q", answer)
		}
		status, _, stderr := cli(t, "--address", "http://"+a.conf.HTTP.Listen, "status")
		if status != exitFailed || stderr == "" {
			t.Errorf("status %d, %q", status, stderr)
		}
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca}}}
	defer c.CloseIdleConnections()
	for _, path := range []string{"/v1/status", "/v1/volumes", "/v1/nothing", "/metrics", "/v1/operator/tokens", "/", "/v1/openapi.yaml", "/debug/pprof/"} {
		resp, err := c.Get("https://" + s.agents[0].conf.HTTP.Listen + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		var e api.Error
		if resp.StatusCode/100 == 2 || bytes.Contains(body, []byte("h1")) {
			t.Errorf("%s without credentials: %d %s", path, resp.StatusCode, body)
		} else if resp.Header.Get("Content-Type") != api.ProblemType || json.Unmarshal(body, &e) != nil || e.Code == "" {
			t.Errorf("%s: %s %q is no problem document", path, resp.Header.Get("Content-Type"), body)
		}
	}
}

// exchange sends bytes and returns what comes back until the other side closes or says nothing for a while.
func exchange(t *testing.T, conn net.Conn, send string) string {
	t.Helper()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(conn, send); err != nil {
		return ""
	}
	b, _ := io.ReadAll(conn) // refused, reset or timed out: what counts is what came before
	return string(b)
}

// signed makes a certificate for cn and unit, signed by itself or by a CA made for it.
func signed(t *testing.T, cn, unit string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: cn, OrganizationalUnit: []string{unit}}, DNSNames: []string{cn, "holdfast"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (s *secured) strangeCertificates(t *testing.T) {
	ctx := deadline(t, 20*time.Second)
	for _, unit := range []string{"host", "admin"} {
		if _, _, err := s.api(t, 0, "", signed(t, "h1", unit)).Status(ctx, client.Read{}); err == nil {
			t.Errorf("a certificate with unit %s of nobody's CA was believed", unit)
		}
	}
	if _, _, err := s.api(t, 0, s.admin, signed(t, "h1", "host")).Status(ctx, client.Read{}); err == nil {
		t.Error("a strange certificate was overlooked because of a good token")
	}
}

func (s *secured) readersRead(t *testing.T) {
	ctx := deadline(t, 30*time.Second)
	c := s.api(t, 1, s.reader)
	if err := poll(ctx, "the reader reads", func() error { _, _, err := c.Volumes(ctx, client.VolumeFilter{}, client.Read{}); return err }); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"volume create": func() error { _, err := c.CreateVolume(ctx, api.VolumeCreate{Name: "no", Size: gib}, ""); return err },
		"volume update": func() error { _, err := c.UpdateVolume(ctx, "no", api.VolumeUpdate{Name: new("x")}); return err },
		"volume delete": func() error { _, err := c.DeleteVolume(ctx, "no"); return err },
		"spm move":      func() error { _, err := c.MoveSPM(ctx, api.SPMMove{}); return err },
		"spm stop":      func() error { _, err := c.StopSPM(ctx, api.SPMStop{}); return err },
		"domain create": func() error {
			_, err := c.CreateDomain(ctx, api.DomainCreate{Name: "no", Devices: []string{s.lun}})
			return err
		},
		"domain extend": func() error {
			_, err := c.ExtendDomain(ctx, "no", api.DomainExtend{LUN: s.lun})
			return err
		},
		"image snapshot": func() error { _, err := c.SnapshotImage(ctx, "no", api.ImageSnapshot{}, ""); return err },
		"token create":   func() error { _, err := c.CreateToken(ctx, api.TokenCreate{Role: api.RoleAdmin}); return err },
		"token revoke":   func() error { return c.RevokeToken(ctx, "x") },
		"transfer":       func() error { _, err := c.TransferLeadership(ctx, api.RaftTransfer{}); return err },
		"leave":          func() error { _, err := c.Leave(ctx, api.Leave{}); return err },
		"init":           func() error { _, err := c.Init(ctx, api.Init{Pool: "no", Devices: []string{"/dev/null"}}); return err },
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, f(), api.CodeForbidden) })
	}
}

// Revoked and expired tokens open no host any more.
func (s *secured) tokensEnd(t *testing.T) {
	ctx := deadline(t, 30*time.Second)
	revoked, err := s.agents[1].CreateToken(ctx, api.TokenCreate{Role: api.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	short, err := s.agents[2].CreateToken(ctx, api.TokenCreate{Role: api.RoleRead, TTLSeconds: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.agents {
		s.awaitToken(t, i, revoked.Secret, true)
		s.awaitToken(t, i, short.Secret, true)
	}
	var out map[string]string
	mustJSON(t, s.agents[2], &out, "operator", "token", "revoke", revoked.ID)
	for i := range s.agents {
		s.awaitToken(t, i, revoked.Secret, false)
		s.awaitToken(t, i, short.Secret, false)
	}
	if e := refusal(t, s.agents[0], api.CodeNotFound, "operator", "token", "revoke", "nonsense"); !strings.Contains(e.Message, "nonsense") {
		t.Errorf("the refusal does not name the token: %s", e.Message)
	}
}

func (s *secured) awaitToken(t *testing.T, i int, token string, good bool) {
	t.Helper()
	c := s.api(t, i, token)
	ctx := deadline(t, 10*time.Second)
	if err := poll(ctx, fmt.Sprintf("the token is good: %t", good), func() error {
		_, _, err := c.Status(ctx, client.Read{})
		if !good && err == nil {
			return errors.New("it is taken")
		}
		if !good {
			wantCode(t, err, api.CodeUnauthorized)
			return nil
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// The port of raft, RPC and join gives nothing to those who speak no TLS, or have no certificate of a member.
func (s *secured) clusterPort(t *testing.T) {
	addr := s.agents[0].conf.Cluster.Listen
	for name, send := range map[string]string{
		"HTTP": "POST /rpc/manager.ping HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "raft": "\x00\x01\x02\x03", "nothing": "", "long": strings.Repeat("A", 1<<16),
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		// A TLS alert is all that may come back.
		if got := exchange(t, conn, send); len(got) > 7 || (got != "" && got[0] != 21) {
			t.Errorf("%s in the clear was answered with %q", name, got)
		}
	}
	for name, cert := range map[string][]tls.Certificate{"no certificate": nil, "a strange one": {signed(t, "h2", "host")}} {
		for _, first := range "RHJ\x00" {
			for _, send := range []string{"POST /rpc/manager.ping HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"} {
				conn, err := tls.Dial("tcp", addr, showing(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}, cert))
				if err != nil {
					continue
				}
				if got := exchange(t, conn, string(rune(first))+send); strings.Contains(got, "200 OK") || strings.Contains(got, "host_id") {
					t.Errorf("%s, connection for %q: answered with %q", name, first, got)
				}
			}
		}
	}
}

// Gossip in the clear is neither answered nor believed.
func (s *secured) gossipPort(t *testing.T) {
	addr := s.agents[0].conf.Gossip.Listen
	udp, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, p := range []string{
		"\x00\x82\xa5SeqNo\x01\xa4Node\xa2h1", // ping of memberlist
		"\x04\x85\xa5Vsn\xc0\xa4Node\xa4evil\xa4Addr\xc4\x04\x7f\x00\x00\x01\xa4Port\x01\xa4Meta\xc0\xabIncarnation\x01", // alive
		"\x0c\x00\x00\x00\x00", "garbage", strings.Repeat("\xff", 1400), "\x0a",
	} {
		if _, err := io.WriteString(udp, p); err != nil {
			t.Fatal(err)
		}
	}
	_ = udp.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := udp.Read(make([]byte, 1500)); err == nil {
		t.Errorf("gossip without the key was answered with %d bytes", n)
	}
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	const encrypted = "\x0a" // memberlist's type of a message that only the key opens; its refusal comes as one
	got := exchange(t, tcp, "\x06\x83\xa5Nodes\x00\xacUserStateLen\x00\xa4Join\xc3")
	if got != "" && !strings.HasPrefix(got, encrypted) {
		t.Errorf("a push and pull without the key was answered in the clear: %q", got)
	}
	hosts, _, err := s.agents[0].Hosts(deadline(t, 10*time.Second), client.Read{})
	if err != nil || len(hosts) != 3 {
		t.Errorf("%d hosts, %v", len(hosts), err)
	}
}

// Keys and sockets are for root alone.
func (s *secured) files(t *testing.T) {
	for _, a := range s.agents {
		keys := 0
		err := filepath.WalkDir(a.conf.DataDir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return nil // it went meanwhile
			}
			b := []byte{}
			if d.Type().IsRegular() && info.Size() < 1<<16 {
				b, _ = os.ReadFile(path)
			}
			secret := bytes.Contains(b, []byte("PRIVATE KEY")) || strings.Contains(d.Name(), "keyring") || d.Type()&fs.ModeSocket != 0
			if secret {
				keys++
			}
			if secret && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		})
		if err != nil || keys < 3 {
			t.Errorf("%d secret files, %v", keys, err)
		}
		if b, _ := os.ReadFile(a.log); bytes.Contains(b, []byte(s.admin)) || bytes.Contains(b, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a secret", a.log)
		}
	}
}

// What only the SPM or the leader can do is done whichever host is asked, and the answer says by whom.
func (s *secured) anyHost(t *testing.T) {
	ctx := deadline(t, 30*time.Second)
	spm := s.awaitSPM(t)
	for i, a := range s.agents {
		c := s.api(t, i, s.admin)
		name := "any-" + strconv.Itoa(i)
		v, err := c.CreateVolume(ctx, api.VolumeCreate{Name: name, Size: gib}, "")
		if err != nil || v.Epoch != spm.Epoch || !v.Mirrored {
			t.Errorf("through %s: %+v, %v; the epoch is %d", a.conf.Name, v, err, spm.Epoch)
			continue
		}
		if _, err := s.api(t, (i+1)%3, "", s.cert[i]).DeleteVolume(ctx, v.ID); err != nil {
			t.Errorf("deleting %s: %v", name, err)
		}
		if _, err := c.CreateToken(ctx, api.TokenCreate{Role: api.RoleRead}); err != nil {
			t.Errorf("a token through %s: %v", a.conf.Name, err)
		}
	}
	// A reader's request stays a reader's when it is passed on, whatever it claims.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.other(spm.Host).conf.HTTP.Listen+"/v1/volumes",
		strings.NewReader(`{"name":"claim","size":1073741824}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.reader)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(api.HeaderRole, api.RoleAdmin)
	req.Header.Set(api.HeaderForwarded, "h1")
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca}}}
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a reader that says it is an administrator got %s", resp.Status)
	}
}

// Names of volumes and hosts pass every port of the pool, and none can be read off the wire.
func (s *secured) nothingInTheClear(t *testing.T) {
	const secret, control = "xylophone-of-the-board", "said-in-the-clear"
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ports := []int{l.LocalAddr().(*net.UDPAddr).Port}
	for _, a := range s.agents {
		for _, addr := range []string{a.conf.Cluster.Listen, a.conf.Gossip.Listen, a.conf.HTTP.Listen} {
			_, port, _ := net.SplitHostPort(addr)
			n, _ := strconv.Atoi(port)
			ports = append(ports, n)
		}
	}
	w := tapWire(t, ports, secret, control, "AppendEntries", "Term", "/rpc/", "host_id", s.admin, "keeper_ok")
	if _, err := l.WriteTo([]byte(control), l.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t, 30*time.Second)
	for i := range s.agents {
		v, err := s.api(t, i, s.admin).CreateVolume(ctx, api.VolumeCreate{Name: secret, Size: gib}, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.api(t, i, s.admin).DeleteVolume(ctx, v.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := poll(ctx, "the capture has seen what it must", func() error {
		if n, seen := w.heard(); !seen[control] || n < 10000 {
			return errNotThere
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, seen := w.heard()
	delete(seen, control)
	if len(seen) > 0 {
		t.Errorf("in the clear: %v", seen)
	}
}

// A host that left is let in nowhere; with a new token it comes back.
func (s *secured) leaveAndComeBack(t *testing.T) {
	ctx := deadline(t, 90*time.Second)
	h3 := s.agents[2]
	joined := mustMember(t, h3, "leave")
	if !joined.Left {
		t.Errorf("%+v", joined)
	}
	awaitHosts(t, s.agents[0].Client, 2)
	refusal(t, h3, api.CodeNotMember, "volume", "list")
	refusal(t, h3, api.CodeNotMember, "leave")
	s.strangerAt(t, 0, 1)
	addr, tok := s.agents[1].conf.Cluster.Listen, joinTokenByCLI(t, s.agents[0])
	mustMember(t, h3, "join", addr, "--token", tok)
	awaitHosts(t, s.agents[0].Client, 3)
	s.strangerAt(t, 0, 1, 2)
	refusal(t, h3, api.CodeAlreadyMember, "join", addr, "--token", tok)
	refusal(t, h3, api.CodeAlreadyMember, "init", "--pool", "p2", s.lun)
	s.usedToken(ctx, t, addr, tok)
	if v, err := h3.CreateVolume(ctx, api.VolumeCreate{Name: "back", Size: gib}, ""); err != nil || !v.Mirrored {
		t.Errorf("through the host that came back: %+v, %v", v, err)
	}
}

// strangerAt checks that hosts refuse the certificate of the host's first membership.
func (s *secured) strangerAt(t *testing.T, hosts ...int) {
	t.Helper()
	ctx := deadline(t, 5*time.Second)
	for _, i := range hosts {
		err := poll(ctx, "the certificate of a membership that ended is refused", func() error {
			_, _, err := s.api(t, i, "", s.cert[2]).Status(ctx, client.Read{})
			if err == nil {
				return errors.New("it is taken by " + s.agents[i].conf.Name)
			}
			wantCode(t, err, api.CodeUnauthorized)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// usedToken shows that a token lets in one host only.
func (s *secured) usedToken(_ context.Context, t *testing.T, addr, tok string) {
	c := agentConfig(t, "h4", s.lun)
	c.Dev = false
	h4 := startAgent(t, c)
	refusal(t, h4, api.CodeTokenInvalid, "join", addr, "--token", tok)
	refusal(t, h4, api.CodeNotMember, "volume", "list")
}
