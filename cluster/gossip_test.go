package cluster

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// gossiping starts gossip of some hosts that know each other.
func gossiping(t *testing.T, names ...string) (all []*gossip) {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	for _, name := range names {
		cfg := realConfig(t, name)
		cfg = cfg.withDefaults()
		dir, err := openDataDir(cfg.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = dir.close() })
		if err := dir.writeJSON(keyringFile, []string{base64.StdEncoding.EncodeToString(key)}); err != nil {
			t.Fatal(err)
		}
		g, err := newGossip(cfg, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := g.close(); err != nil {
				t.Error(err)
			}
		})
		if len(all) > 0 {
			if err := g.join(all[0].members()[0].Gossip); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, g)
	}
	for _, g := range all {
		testutil.Retry(t, 20*time.Second, func() error {
			for _, name := range names {
				if m, ok := g.member(name); !ok || !m.Alive {
					return fmt.Errorf("%s is not there", name)
				}
			}
			return nil
		})
	}
	return all
}

// A host is forgotten while it leaves, which is when the leader removes it. Nobody is to wait for that: raft asks gossip for addresses.
func TestGossip_forgetWhileLeaving(t *testing.T) {
	t.Parallel()
	all := gossiping(t, "a", "b", "c")
	gone := make(chan error, 1)
	go func() { gone <- all[2].leave() }()
	var longest time.Duration
	for end := time.Now().Add(20 * time.Second); ; {
		begun := time.Now()
		all[0].forget("c", slog.New(slog.DiscardHandler))
		m, known := all[0].member("c")
		_, _ = all[1].member("c")
		longest = max(longest, time.Since(begun))
		if !known || m.Status == serf.StatusLeft.String() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("c is %s", m.Status)
		}
	}
	if err := <-gone; err != nil {
		t.Error(err)
	}
	if longest > 4*time.Second { // serf sleeps for 5 s by default
		t.Errorf("the members could not be looked at for %v", longest)
	}
}

// A host that has failed and is removed counts as one that has left.
func TestGossip_forgetFailed(t *testing.T) {
	t.Parallel()
	all := gossiping(t, "a", "b")
	if err := all[1].close(); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, 20*time.Second, func() error {
		all[0].forget("b", slog.New(slog.DiscardHandler))
		if m, _ := all[0].member("b"); m.Status != serf.StatusLeft.String() {
			return fmt.Errorf("b is %s", m.Status)
		}
		return nil
	})
}
