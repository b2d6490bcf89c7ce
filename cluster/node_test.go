package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

func TestNode_threeHosts_anyHostApplies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		for name, h := range w.hosts {
			out := w.mustApply(h.node, set("k-"+name, "v"))
			if out.Index == 0 {
				t.Error("no index")
			}
		}
		for name, h := range w.hosts {
			if err := h.node.Barrier(context.Background()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := h.node.View().Config.Len(); got != 3 {
				t.Errorf("%s holds %d keys, want 3", name, got)
			}
		}
		ids := map[int]bool{}
		for _, h := range w.leader().node.View().Hosts.All() {
			ids[h.HostID] = true
		}
		if len(ids) != 3 || !ids[1] || !ids[2] || !ids[3] {
			t.Errorf("host ids %v", ids)
		}
	})
}

func TestNode_leaderCutOff_oldTermEndsBeforeNewBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		var leading, most atomic.Int32
		duty := func(ctx context.Context) error {
			if n := leading.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-ctx.Done()
			leading.Add(-1)
			return nil
		}
		for i, name := range []string{"a", "b", "c"} {
			h := w.config(name)
			var n *Node
			var err error
			if i == 0 {
				n, err = Bootstrap(context.Background(), h.cfg, "test")
			} else {
				_, text, terr := w.hosts["a"].node.CreateToken(context.Background(), fsm.TokenJoin, time.Hour)
				if terr != nil {
					t.Fatal(terr)
				}
				n, err = Join(context.Background(), h.cfg, "a:7000", text)
			}
			if err != nil {
				t.Fatal(err)
			}
			n.OnLeadership(duty)
			w.run(h, n)
		}
		w.voters("a", "b", "c")
		for range 5 {
			old := w.leader()
			w.net.Cut(old.cfg.Name, true)
			next := w.leader(old.cfg.Name)
			w.mustApply(next.node, set("k", fmt.Sprint(time.Now().UnixNano())))
			w.net.Cut(old.cfg.Name, false)
			w.until(10*time.Second, "the old leader follows", func() error {
				if name, ok := old.node.Leader(); !ok || name == old.cfg.Name {
					return fmt.Errorf("its leader is %q", name)
				}
				return nil
			})
		}
		if most.Load() != 1 {
			t.Errorf("%d hosts led at the same time", most.Load())
		}
	})
}

func TestNode_leaderDies_forwardedApplySucceedsWithOneRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		old := w.leader()
		var follower *worldHost
		for _, h := range w.hosts {
			if h != old {
				follower = h
			}
		}
		w.net.Cut(old.cfg.Name, true)
		began := time.Now()
		w.mustApply(follower.node, set("after", "x")) // the first attempt hangs in the cut connection
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		w.mustApply(w.leader(old.cfg.Name).node, set("after2", "x"))
		w.net.Cut(old.cfg.Name, false)
	})
}

func TestNode_minority_refusesWithoutLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		w.net.Cut("a", true)
		w.net.Cut("b", true)
		time.Sleep(5 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := w.hosts["a"].node.Apply(ctx, set("k", "v"))
		if !errors.Is(err, ErrNoLeader) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("got %v, want that surely nothing happened", err)
		}
		if w.hosts["a"].node.IsLeader() || w.hosts["b"].node.IsLeader() || w.hosts["c"].node.IsLeader() {
			t.Error("somebody leads without a quorum")
		}
		w.net.Cut("a", false)
		w.net.Cut("b", false)
		w.mustApply(w.leader().node, set("k", "v"))
	})
}

func TestNode_logHangs_leaderStepsDownWithinLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		old := w.leader()
		release := old.stores.log.hang()
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		result := make(chan error, 1)
		go func() { _, err := old.node.ApplyID(ctx, set("k", "hung"), "the-request"); result <- err }()
		w.until(old.cfg.LogWatchdog+5*time.Second, "the hung leader gives up", func() error {
			if old.node.IsLeader() {
				return errors.New("it still leads")
			}
			return nil
		})
		next := w.leader(old.cfg.Name)
		if took := time.Since(began); took > 2*time.Second+3*time.Second {
			t.Errorf("a new leader only after %v", took)
		}
		w.mustApply(next.node, set("k2", "v"))
		if err := <-result; err != nil && !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("the hung command: %v", err)
		}
		release()
		w.until(20*time.Second, "the old leader catches up", func() error {
			if !old.node.View().Config.Has("k2") {
				return errors.New("k2 is not there")
			}
			return nil
		})
		w.voters("a", "b", "c")
	})
}

func TestNode_logHangs_withoutWatchdogNobodyElseLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.config("a")
		h.cfg.LogWatchdog = time.Hour // as good as none: this is the bug that the watchdog is for
		n, err := Bootstrap(context.Background(), h.cfg, "test")
		if err != nil {
			t.Fatal(err)
		}
		w.run(h, n)
		w.join("b", "a")
		w.join("c", "a")
		w.voters("a", "b", "c")
		if err := n.TransferLeadership(context.Background(), "a"); err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.until(10*time.Second, "a leads", func() error {
			if !n.IsLeader() {
				return errors.New("not yet")
			}
			return nil
		})
		release := h.stores.log.hang()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = n.Apply(ctx, set("k", "v"))
		if !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
		time.Sleep(30 * time.Second)
		if w.hosts["b"].node.IsLeader() || w.hosts["c"].node.IsLeader() {
			t.Error("raft elected another leader by itself: the watchdog is not needed any more")
		}
		release()
	})
}

func TestNode_retry_appliesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		ev := &fsm.EventAdd{Events: []fsm.Event{{Kind: "test", Message: "once"}}}
		first, err := w.hosts["a"].node.ApplyID(context.Background(), ev, "same")
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.hosts["c"].node.ApplyID(context.Background(), ev, "same")
		if err != nil {
			t.Fatal(err)
		}
		if !again.Duplicate || again.Index != first.Index {
			t.Errorf("first %+v, again %+v", first, again)
		}
		if got := len(w.leader().node.View().Events()); got != 1 {
			t.Errorf("%d events, want 1", got)
		}
	})
}

func TestNode_restartWithNewAddress_isFoundAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		w.mustApply(w.hosts["a"].node, set("k", "v"))
		n := w.restart("b", func(c *Config) { c.ClusterAddr, c.ClusterAdvertise = "b:7001", "" })
		w.until(20*time.Second, "the new address is known", func() error {
			h, _ := w.hosts["a"].node.View().Hosts.Get("b")
			if h.Address != "b:7001" {
				return fmt.Errorf("it is %s", h.Address)
			}
			return nil
		})
		w.mustApply(n, set("k2", "v"))
		w.until(20*time.Second, "raft's configuration follows", func() error {
			peers, err := w.leader().node.RaftPeers()
			if err != nil {
				return err
			}
			for _, p := range peers {
				if p.Name == "b" && p.Address == "b:7001" && p.Voter {
					return nil
				}
			}
			return fmt.Errorf("they are %v", peers)
		})
	})
}

func TestNode_leave_removesHostAndLetsItRejoin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		leader := w.leader()
		name := leader.cfg.Name
		if err := leader.node.Leave(context.Background(), "test"); err != nil {
			t.Fatal(err)
		}
		if IsMember(leader.cfg.DataDir) {
			t.Error("still a member")
		}
		rest := []string{"a", "b", "c"}
		for i, n := range rest {
			if n == name {
				rest = append(rest[:i], rest[i+1:]...)
				break
			}
		}
		if err := leader.stop(); err != nil {
			t.Error(err)
		}
		delete(w.hosts, name)
		w.voters(rest...)
		w.join(name, rest[0])
		w.voters("a", "b", "c")
		h, _ := w.leader().node.View().Hosts.Get(name)
		if h.HostID != 4 {
			t.Errorf("host id %d, want one never given out", h.HostID)
		}
	})
}

func TestNode_lastHost_cannotLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		n := w.first("a")
		w.leader()
		if err := n.Leave(context.Background(), "test"); !errors.Is(err, ErrLastHost) {
			t.Errorf("got %v", err)
		}
	})
}

func TestNode_dataDir_oneProcessOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.first("a")
		if _, err := Open(context.Background(), w.hosts["a"].cfg); !errors.Is(err, ErrDataDirInUse) {
			t.Errorf("got %v", err)
		}
		if _, err := Bootstrap(context.Background(), w.hosts["a"].cfg, "again"); !errors.Is(err, ErrDataDirInUse) {
			t.Errorf("got %v", err)
		}
	})
}

func TestNode_call_selfAndOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		h := w.config("a")
		n, err := Bootstrap(context.Background(), h.cfg, "test")
		if err != nil {
			t.Fatal(err)
		}
		n.Handle("echo", func(_ context.Context, from string, body []byte) (any, error) {
			return from + string(body), nil
		})
		n.Handle("fail", func(context.Context, string, []byte) (any, error) {
			return nil, fmt.Errorf("failing: %w", ErrLastHost)
		})
		w.run(h, n)
		w.leader()
		b := w.join("b", "a")
		for _, caller := range []*Node{n, b} {
			var got string
			if err := caller.Call(context.Background(), "a", "echo", 7, &got); err != nil || got != caller.Name()+"7" {
				t.Errorf("from %s: %q, %v", caller.Name(), got, err)
			}
			if err := caller.Call(context.Background(), "a", "fail", nil, nil); !errors.Is(err, ErrLastHost) {
				t.Errorf("from %s: %v", caller.Name(), err)
			}
		}
		if err := b.Call(context.Background(), "nobody", "echo", 7, nil); !errors.Is(err, ErrUnreachable) {
			t.Errorf("unknown host: %v", err)
		}
	})
}
