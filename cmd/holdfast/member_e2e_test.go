package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// A fourth host tries bad tokens, joins, holds the role and leaves again.
func TestE2E_fourthHost(t *testing.T) {
	p := startPool(t)
	first := p.client(0)
	cluster := devClusterAddress(t, p, 0)
	conf := agentConfig(t, "h4", p.file().LUN)
	a := startAgent(t, conf)
	ctx := deadline(t, 120*time.Second)

	t.Run("wrong and expired tokens", func(t *testing.T) { badTokens(t, p, a, cluster) })

	tok, err := first.CreateToken(ctx, api.TokenCreate{Role: api.RoleJoin})
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Join(ctx, api.Join{Address: cluster, Token: tok.Secret})
	if err != nil {
		t.Fatal(err)
	}
	if m.HostID != 4 || m.Pool != p.file().Pool {
		t.Errorf("joined as %+v", m)
	}
	awaitHosts(t, first, 4)

	t.Run("a used token", func(t *testing.T) {
		b := startAgent(t, agentConfig(t, "h5", p.file().LUN))
		_, err := b.Join(ctx, api.Join{Address: cluster, Token: tok.Secret})
		wantCode(t, err, api.CodeTokenInvalid)
	})
	t.Run("a taken name", func(t *testing.T) { takenName(t, p, cluster) })

	if spm, err := first.MoveSPM(ctx, api.SPMMove{To: "h4"}); err != nil || spm.Host != "h4" {
		t.Fatalf("moving the role to the new host: %+v, %v", spm, err)
	}
	mustCreate(t, a.Client, "by-h4", 1)

	if m, err := a.Leave(ctx, api.Leave{}); err != nil || !m.Left {
		t.Fatalf("leaving: %+v, %v", m, err)
	}
	awaitHosts(t, first, 3)
	peers, err := first.RaftPeers(ctx)
	if err != nil || len(peers) != 3 {
		t.Errorf("%d raft peers after the leave, %v", len(peers), err)
	}
	if spm := mustSPM(t, p); spm.Host == "h4" {
		t.Error("the role is with a host that has left")
	}
	mustCreate(t, first, "after-leave", 1)
	mustList(t, first, 2)
	judgeLUN(t, p)
}

func badTokens(t *testing.T, p *devProcess, a *testAgent, cluster string) {
	ctx := deadline(t, 30*time.Second)
	tok, err := p.client(0).CreateToken(ctx, api.TokenCreate{Role: api.RoleJoin, TTLSeconds: 1})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(tok.Secret, ".")
	if len(parts) != 3 {
		t.Fatalf("the token %q has not three parts", tok.Secret)
	}
	wrong := parts[0] + "." + strings.Repeat("A", len(parts[1])) + "." + parts[2]
	for name, secret := range map[string]string{"wrong": wrong, "garbage": "hello", "empty": ""} {
		if _, err := a.Join(ctx, api.Join{Address: cluster, Token: secret}); err == nil {
			t.Errorf("a %s token was taken", name)
		}
	}
	if err := poll(ctx, "the token expires", func() error {
		if time.Now().After(tok.Expires) {
			return nil
		}
		return errors.New("not yet")
	}); err != nil {
		t.Fatal(err)
	}
	_, err = a.Join(ctx, api.Join{Address: cluster, Token: tok.Secret})
	wantCode(t, err, api.CodeTokenInvalid)
	if h, err := a.Health(ctx); err != nil || h.Member {
		t.Errorf("after refused tokens: %+v, %v", h, err)
	}
}

func takenName(t *testing.T, p *devProcess, cluster string) {
	ctx := deadline(t, 30*time.Second)
	tok, err := p.client(0).CreateToken(ctx, api.TokenCreate{Role: api.RoleJoin})
	if err != nil {
		t.Fatal(err)
	}
	b := startAgent(t, agentConfig(t, "h2", p.file().LUN))
	if _, err := b.Join(ctx, api.Join{Address: cluster, Token: tok.Secret}); err == nil {
		t.Error("a host with a taken name joined")
	} else {
		wantCode(t, err, api.CodeConflict)
	}
}

// devClusterAddress is the cluster port of a host.
func devClusterAddress(t *testing.T, p *devProcess, i int) string {
	t.Helper()
	st, err := loadDevState(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	return loopback(st.Hosts[i].Cluster)
}

// awaitHosts waits until the pool has n hosts that are up.
func awaitHosts(t *testing.T, c *client.Client, n int) {
	t.Helper()
	ctx := deadline(t, 30*time.Second)
	err := poll(ctx, fmt.Sprintf("%d hosts are up", n), func() error {
		hs, _, err := c.Hosts(ctx, client.Read{Consistent: true})
		if err != nil {
			return err
		}
		if len(hs) != n {
			return fmt.Errorf("there are %d", len(hs))
		}
		for _, h := range hs {
			if h.State != api.HostUp {
				return fmt.Errorf("%s is %s: %s", h.Name, h.State, h.Reason)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// LUNs that are not what they should be are refused with a reason, and nothing on them changes.
func TestE2E_badLUN(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int64
		code string
	}{
		{"too small", 1 << 20, api.CodeDevice},
		{"missing", -1, api.CodeDevice},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lun := filepath.Join(shortDir(t), "lun.img")
			if tt.size >= 0 {
				sparse(t, lun, tt.size)
			}
			refuseLUN(t, startAgent(t, agentConfig(t, "h1", lun)), lun, "", tt.code)
		})
	}
}

// A LUN with somebody's file system is refused, and taken only when what would be destroyed is named.
func TestE2E_foreignLUN(t *testing.T) {
	testutil.NeedTool(t, "mkfs.ext4")
	lun := filepath.Join(shortDir(t), "lun.img")
	sparse(t, lun, 32<<30)
	testutil.Run(t, "mkfs.ext4", "-q", "-F", "-L", "somebodys", lun)
	a := startAgent(t, agentConfig(t, "h1", lun))
	e := refuseLUN(t, a, lun, "", api.CodeForeignSignature)
	if e != nil && !strings.Contains(e.Message+e.NextStep, "somebodys") {
		t.Errorf("the refusal does not name what is there: %v; %s", e, e.NextStep)
	}
	refuseLUN(t, a, lun, "somebody-else", api.CodeForeignSignature)
	ctx := deadline(t, 30*time.Second)
	if _, err := a.Init(ctx, api.Init{Pool: "p", Profile: "dev", Devices: []string{lun}, Force: "somebodys"}); err != nil {
		t.Errorf("with the right name it is refused too: %v", err)
	}
}

// refuseLUN wants an init on a LUN to fail and to leave the LUN alone.
func refuseLUN(t *testing.T, a *testAgent, lun, force, code string) *api.Error {
	t.Helper()
	before := firstMiB(t, lun)
	_, err := a.Init(deadline(t, 30*time.Second), api.Init{Pool: "p", Profile: "dev", Devices: []string{lun}, Force: force})
	wantCode(t, err, code)
	if !bytes.Equal(before, firstMiB(t, lun)) {
		t.Error("the refused LUN was changed")
	}
	var e *api.Error
	if errors.As(err, &e) && e.NextStep == "" {
		t.Errorf("no next step in %v", err)
	}
	return e
}

func sparse(t *testing.T, path string, size int64) {
	t.Helper()
	if _, err := makeLUN(path, size); err != nil {
		t.Fatal(err)
	}
}

// firstMiB is the begin of a file; empty when there is none.
func firstMiB(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	n, _ := f.ReadAt(b, 0)
	return b[:n]
}

// An agent outside dev speaks TLS with the cluster's CA and lets nobody in without a token or a certificate.
func TestE2E_secureAgent(t *testing.T) {
	lun := filepath.Join(shortDir(t), "lun.img")
	sparse(t, lun, 32<<30)
	conf := agentConfig(t, "h1", lun)
	conf.Dev = false
	a := startAgent(t, conf)
	ctx := deadline(t, 60*time.Second)
	if _, err := a.Init(ctx, api.Init{Pool: "p", Profile: "dev", Devices: []string{lun}}); err != nil {
		t.Fatal(err)
	}
	if err := poll(ctx, "the SPM serves", func() error {
		spm, _, err := a.SPM(ctx, client.Read{})
		if err == nil && spm.State != api.SPMServing {
			err = errors.New(spm.State)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	admin, reader := token(t, a, api.RoleAdmin), token(t, a, api.RoleRead)
	pool := clusterCA(t, conf.DataDir)

	_, _, err := overTLS(t, conf.HTTP.Listen, pool, "").Status(ctx, client.Read{})
	wantCode(t, err, api.CodeUnauthorized)
	_, _, err = overTLS(t, conf.HTTP.Listen, pool, "nonsense").Status(ctx, client.Read{})
	wantCode(t, err, api.CodeUnauthorized)
	if _, _, err = overTLS(t, conf.HTTP.Listen, pool, reader).Status(ctx, client.Read{}); err != nil {
		t.Errorf("a reader reads: %v", err)
	}
	_, err = overTLS(t, conf.HTTP.Listen, pool, reader).CreateVolume(ctx, api.VolumeCreate{Name: "r", Size: gib}, "")
	wantCode(t, err, api.CodeForbidden)
	if _, err = overTLS(t, conf.HTTP.Listen, pool, admin).CreateVolume(ctx, api.VolumeCreate{Name: "a", Size: gib}, ""); err != nil {
		t.Errorf("an administrator creates: %v", err)
	}
	if _, _, err = overTLS(t, conf.HTTP.Listen, x509.NewCertPool(), admin).Status(ctx, client.Read{}); err == nil {
		t.Error("a certificate of an unknown CA was believed")
	}
	if status, _, _ := cli(t, "--address", "http://"+conf.HTTP.Listen, "status"); status == exitOK {
		t.Error("the API answers in the clear")
	}
}

func token(t *testing.T, a *testAgent, role string) string {
	t.Helper()
	tok, err := a.CreateToken(deadline(t, 10*time.Second), api.TokenCreate{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return tok.Secret
}

// clusterCA finds the CA's certificate among the agent's files.
func clusterCA(t *testing.T, dataDir string) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	found := false
	for _, pattern := range []string{"ca.pem", "*/ca.pem", "ca.crt", "*/ca.crt"} {
		files, _ := filepath.Glob(filepath.Join(dataDir, pattern))
		for _, f := range files {
			b, err := os.ReadFile(f)
			found = err == nil && pool.AppendCertsFromPEM(b) || found
		}
	}
	if !found {
		t.Fatalf("no CA certificate in %s", dataDir)
	}
	return pool
}

func overTLS(t *testing.T, addr string, pool *x509.CertPool, token string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Address: "https://" + addr, Token: token, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
