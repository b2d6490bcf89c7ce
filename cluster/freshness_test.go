package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/fsm"
)

// ages looks, again and again, whether hosts show less than the age of their mirrors promises.
type ages struct {
	w    *world
	done []time.Time // when entry i was committed, at the latest
}

// commit writes the next entry through the leader.
func (a *ages) commit(except ...string) {
	a.w.t.Helper()
	n := a.w.leader(except...).node
	a.w.mustApply(n, set("age", strconv.Itoa(len(a.done))))
	a.done = append(a.done, time.Now())
}

// shown is the number of entries that a host shows, with the age that it says before that.
func (a *ages) shown(n *Node) (shown int, age time.Duration, caughtUp bool) {
	age, caughtUp = n.Age()
	if v, ok := n.View().Config.Get("age"); ok {
		last, err := strconv.Atoi(v)
		if err != nil {
			a.w.t.Fatal(err)
		}
		shown = last + 1
	}
	return shown, age, caughtUp
}

// judge reports a mirror that is older than its host says.
func (a *ages) judge(names ...string) {
	a.w.t.Helper()
	for _, name := range names {
		shown, age, _ := a.shown(a.w.hosts[name].node)
		asOf := time.Now().Add(-age)
		for i, at := range a.done {
			if i >= shown && at.Before(asOf) {
				a.w.t.Fatalf("%s says its mirror is %v old and shows %d entries; number %d was committed %v ago", name, age, shown, i+1, time.Since(at))
			}
		}
	}
}

// young waits until each host says that its mirror is younger than a second, judging all the while.
func (a *ages) young(names ...string) {
	a.w.t.Helper()
	a.w.until(20*time.Second, "young mirrors", func() error {
		a.judge(names...)
		for _, name := range names {
			if _, age, caughtUp := a.shown(a.w.hosts[name].node); !caughtUp || age > time.Second {
				return fmt.Errorf("%s: %v, %v", name, age, caughtUp)
			}
		}
		return nil
	})
}

// The age grows while a host is cut off, the one that led included, and falls only once the host has what was committed meanwhile.
func TestNode_age_cutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		a := &ages{w: w}
		a.commit()
		a.young("a", "b", "c")
		for i := range 6 {
			cut := w.leader().cfg.Name
			if i%2 == 1 {
				cut = w.follower().cfg.Name
			}
			w.net.Cut(cut, true)
			for range 20 {
				a.commit(cut)
				a.judge("a", "b", "c")
				time.Sleep(100 * time.Millisecond)
			}
			if _, age, _ := a.shown(w.hosts[cut].node); age < 1900*time.Millisecond {
				t.Errorf("%s was cut off for two seconds and says %v", cut, age)
			}
			w.net.Cut(cut, false)
			a.young("a", "b", "c")
		}
	})
}

// follower is a host that does not lead.
func (w *world) follower() *worldHost {
	lead := w.leader()
	for _, name := range []string{"a", "b", "c"} {
		if h := w.hosts[name]; h != lead {
			return h
		}
	}
	return nil
}

// A host that starts has nothing but its last snapshot, which may be from long ago; and so has one that nobody leads.
func TestNode_age_restart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		a := &ages{w: w}
		time.Sleep(2 * time.Minute)
		a.commit()
		down := w.follower().cfg.Name
		if err := w.hosts[down].stop(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			a.commit()
		}
		w.net.Cut(down, true)
		n := w.restart(down, nil)
		time.Sleep(5 * time.Second)
		if shown, age, caughtUp := a.shown(n); caughtUp || age < 2*time.Minute || shown == len(a.done) {
			t.Errorf("cut off since its start it shows %d entries, says %v, %v", shown, age, caughtUp)
		}
		w.net.Cut(down, false)
		a.young("a", "b", "c")
	})
}

// A host that slept believes that it leads, and its clock of timeouts did not move.
func TestNode_age_suspend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		a := &ages{w: w}
		a.commit()
		a.young("a", "b", "c")
		w.clock.Skew += time.Hour
		if _, age, _ := a.shown(w.leader().node); age < time.Hour {
			t.Errorf("after an hour of sleep: %v", age)
		}
		a.young("a", "b", "c")
	})
}

// Asking for the age writes nothing into the log, and a leader that has committed nothing in its term, or leads no more, is not believed.
func TestNode_committed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		time.Sleep(10 * time.Second)
		lead := w.leader()
		before := lead.node.raft.LastIndex()
		time.Sleep(time.Minute)
		if after := lead.node.raft.LastIndex(); after != before {
			t.Errorf("the log grew from %d to %d", before, after)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := w.follower().node.serveCommitted(ctx, struct{}{}); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a follower answers %v", err)
		}
		lead.node.leader.established.Store(0)
		if _, err := lead.node.serveCommitted(ctx, struct{}{}); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a leader that has committed nothing yet answers %v", err)
		}
		lead.node.leader.established.Store(lead.node.raft.CurrentTerm())
		w.net.Cut(lead.cfg.Name, true)
		if lead.node.raft.State() != raft.Leader {
			t.Fatal("it does not lead any more")
		}
		if c, err := lead.node.serveCommitted(ctx, struct{}{}); err == nil {
			t.Errorf("a leader that nobody hears answers %+v", c)
		}
		w.net.Cut(lead.cfg.Name, false)
	})
}

// A host whose disk is full takes no entries, and yet learns who has the SPM role.
func TestNode_SPM_behind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		w.mustApply(w.leader().node, &fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Name: "p", Profile: "dev"}})
		serves := func(epoch uint64, host string) {
			w.mustApply(w.leader().node, &fsm.SPMUpdate{Pool: "p", ExpectEpoch: epoch - 1, SPM: fsm.SPM{Host: host, Epoch: epoch, State: fsm.SPMServing}})
		}
		h := w.follower()
		knows := func(epoch uint64, host string) {
			w.until(3*time.Second, "news of the role", func() error {
				if s := h.node.SPM(); s.Epoch != epoch || s.Host != host || s.State != fsm.SPMServing {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
		}
		serves(1, "a")
		knows(1, "a")
		free := h.stores.log.fill()
		serves(2, "b")
		knows(2, "b")
		serves(3, "c")
		knows(3, "c")
		if pool, _ := h.node.View().Pool(); pool.SPM.Epoch != 1 {
			t.Errorf("the log was full, and the mirror says %+v", pool.SPM)
		}
		if age, _ := h.node.Age(); age < 500*time.Millisecond {
			t.Errorf("a mirror that takes nothing is %v old", age)
		}
		free()
		w.until(10*time.Second, "a mirror that is up to date", func() error {
			if pool, _ := h.node.View().Pool(); pool.SPM.Epoch != 3 {
				return fmt.Errorf("%+v", pool.SPM)
			}
			return nil
		})
		serves(4, "a")
		knows(4, "a")
	})
}
