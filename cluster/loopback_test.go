package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// realHost is a host on loopback with bbolt, TLS and gossip.
type realHost struct {
	cfg  Config
	node *Node
	stop func() error
}

func realConfig(t *testing.T, name string) Config {
	t.Helper()
	address := func() string { return fmt.Sprint("127.0.0.1:", testutil.FreePort(t)) }
	return Config{
		Name: name, DataDir: t.TempDir(), ClusterAddr: address(), GossipAddr: address(), HTTPAddr: "127.0.0.1:1", Log: testLog(),
		// The machine of a test may be slow and busy.
		Raft: RaftTimes{Heartbeat: 600 * time.Millisecond, Election: 600 * time.Millisecond, LeaderLease: 500 * time.Millisecond},
	}
}

func runReal(t *testing.T, cfg Config, n *Node) *realHost {
	t.Helper()
	n.HandleHTTP("/v1/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _ := transport.From(r.Context())
		fmt.Fprint(w, n.Name(), " got it from ", from)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	r := &realHost{cfg: cfg, node: n, stop: sync.OnceValue(func() error { cancel(); return <-done })}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("%s: %v", cfg.Name, err)
		}
	})
	return r
}

func leaderOf(t *testing.T, hosts ...*realHost) *realHost {
	t.Helper()
	var found *realHost
	testutil.Retry(t, 20*time.Second, func() error {
		for _, h := range hosts {
			if h.node.IsLeader() {
				found = h
				return nil
			}
		}
		return errors.New("none leads")
	})
	return found
}

func apply(t *testing.T, n *Node, cmd fsm.Command) {
	t.Helper()
	out, err := n.Apply(testutil.Deadline(t), cmd)
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		t.Fatalf("applying on %s: %v", n.Name(), err)
	}
}

func voters(t *testing.T, want int, hosts ...*realHost) {
	t.Helper()
	testutil.Retry(t, 30*time.Second, func() error {
		peers, err := leaderOf(t, hosts...).node.RaftPeers()
		if err != nil {
			return err
		}
		n := 0
		for _, p := range peers {
			if p.Voter {
				n++
			}
		}
		if n != want {
			return fmt.Errorf("peers %v", peers)
		}
		return nil
	})
}

func TestNode_loopback_joinKillForwardRestart(t *testing.T) {
	t.Parallel()
	ctx := testutil.Deadline(t)
	cfg := realConfig(t, "a")
	n, err := Bootstrap(ctx, cfg, "real")
	if err != nil {
		t.Fatal(err)
	}
	hosts := []*realHost{runReal(t, cfg, n)}
	for _, name := range []string{"b", "c"} {
		_, text, err := hosts[0].node.CreateToken(ctx, fsm.TokenJoin, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cfg := realConfig(t, name)
		n, err := Join(ctx, cfg, hosts[len(hosts)-1].cfg.ClusterAddr, text)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, runReal(t, cfg, n))
	}
	voters(t, 3, hosts...)
	checkGossip(t, hosts)
	checkForwarding(t, hosts)

	old := leaderOf(t, hosts...)
	rest := without(hosts, old)
	if err := old.stop(); err != nil {
		t.Fatal(err)
	}
	apply(t, rest[0].node, &fsm.ConfigSet{Key: "while one is down", Value: "v"})
	back := reopen(t, old)
	testutil.Retry(t, 20*time.Second, func() error {
		if back.node.View().Config.Len() != 4 {
			return fmt.Errorf("holds %d keys", back.node.View().Config.Len())
		}
		return nil
	})

	all := append(rest, back)
	for _, h := range all { // the whole cluster goes down and comes back from its disks
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
	}
	for i, h := range all {
		all[i] = reopen(t, h)
	}
	leaderOf(t, all...)
	apply(t, all[0].node, &fsm.ConfigSet{Key: "after the restart", Value: "v"})
	for _, h := range all {
		if err := h.node.Barrier(ctx); err != nil {
			t.Fatal(err)
		}
		if got := h.node.View().Config.Len(); got != 5 {
			t.Errorf("%s holds %d keys, want 5", h.cfg.Name, got)
		}
	}
}

func reopen(t *testing.T, h *realHost) *realHost {
	t.Helper()
	n, err := Open(context.Background(), h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return runReal(t, h.cfg, n)
}

func without(hosts []*realHost, gone *realHost) (rest []*realHost) {
	for _, h := range hosts {
		if h != gone {
			rest = append(rest, h)
		}
	}
	return rest
}

func checkGossip(t *testing.T, hosts []*realHost) {
	t.Helper()
	testutil.Retry(t, 20*time.Second, func() error {
		for _, h := range hosts {
			for _, o := range hosts {
				if !h.node.Alive(o.cfg.Name) {
					return fmt.Errorf("%s does not hear of %s", h.cfg.Name, o.cfg.Name)
				}
			}
		}
		return nil
	})
}

func checkForwarding(t *testing.T, hosts []*realHost) {
	t.Helper()
	for _, h := range hosts {
		apply(t, h.node, &fsm.ConfigSet{Key: "from " + h.cfg.Name, Value: "v"})
		for _, o := range hosts {
			resp, err := (&http.Client{Transport: h.node.RoundTripper(o.cfg.Name)}).Get("http://any/v1/x")
			if err != nil {
				t.Fatal(err)
			}
			var text [100]byte
			k, _ := resp.Body.Read(text[:])
			_ = resp.Body.Close()
			if want := o.cfg.Name + " got it from " + h.cfg.Name; string(text[:k]) != want {
				t.Errorf("%q, want %q", text[:k], want)
			}
		}
	}
}

func TestNode_secretsAreReadableByRootOnly(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, "a")
	n, err := Bootstrap(context.Background(), cfg, "real")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, name := range []string{transport.CAKeyFile, transport.HostKeyFile, keyringFile, memberFile} {
		st, err := os.Stat(filepath.Join(cfg.DataDir, subDir, name))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st, err)
		}
	}
	if _, err := Bootstrap(context.Background(), cfg, "again"); !errors.Is(err, ErrDataDirInUse) {
		t.Errorf("while it is open: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Bootstrap(context.Background(), cfg, "again"); !errors.Is(err, ErrAlreadyMember) {
		t.Errorf("after it was closed: %v", err)
	}
	if err := n.renewCert(time.Now().Add(300 * 24 * time.Hour)); err != nil {
		t.Error(err)
	}
}

func TestNode_tokensOfTheAPI(t *testing.T) {
	t.Parallel()
	ctx := testutil.Deadline(t)
	cfg := realConfig(t, "a")
	cfg.GossipAddr = ""
	n, err := Bootstrap(ctx, cfg, "real")
	if err != nil {
		t.Fatal(err)
	}
	runReal(t, cfg, n)
	tok, text, err := n.CreateToken(ctx, fsm.TokenRead, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := n.VerifyToken(text); err != nil || got.ID != tok.ID || got.Role != fsm.TokenRead {
		t.Errorf("%+v %v", got, err)
	}
	_, joinText, err := n.CreateToken(ctx, fsm.TokenJoin, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.VerifyToken(joinText); !errors.Is(err, fsm.ErrTokenUnknown) {
		t.Errorf("a join token opened the API: %v", err)
	}
	apply(t, n, &fsm.TokenRevoke{ID: tok.ID})
	if _, err := n.VerifyToken(text); !errors.Is(err, fsm.ErrTokenUnknown) {
		t.Errorf("a revoked token opened the API: %v", err)
	}
	if _, _, err := n.CreateToken(ctx, fsm.TokenJoin, 0); !errors.Is(err, fsm.ErrInvalid) {
		t.Errorf("a join token without end: %v", err)
	}
}
