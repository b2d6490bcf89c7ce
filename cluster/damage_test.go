package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestNode_damagedEntry: an entry that is not what was written stops its host with an error that says what to do, whether raft needs it at
// its start or later; the others go on. Without the node's help raft would end the process both times.
func TestNode_damagedEntry(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		after int // reads that are good: raft reads each entry at its start, and again to apply it
	}{{"at the start", 0}, {"later", 1}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := three(t)
				defer w.close()
				lead := w.leader()
				w.mustApply(lead.node, set("k", "v"))
				var h *worldHost
				for _, other := range w.hosts {
					if other != lead {
						h = other
					}
				}
				if err := h.stop(); err != nil {
					t.Fatal(err)
				}
				h.stores.log.damage(3, c.after)
				n, err := Open(context.Background(), h.cfg)
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- n.Run(context.Background()) }()
				select {
				case err := <-ended:
					if !errors.Is(err, ErrLogDamaged) {
						t.Errorf("ended with %v", err)
					}
				case <-time.After(time.Minute):
					t.Error("it goes on without the entry")
				}
				if n.View().Config.Has("k") {
					t.Error("something behind the damaged entry was applied")
				}
				w.mustApply(w.leader(h.cfg.Name).node, set("k2", "v"))
			})
		})
	}
}
