package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// A host that lost its files joins again under its name at the very moment of its removal. It must not be counted as the
// server it was: that one's vote stood for a log that is gone.
func TestNode_rejoin_waitsForTheOldServerToGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		leader := w.leader()
		lost := "a"
		if leader.cfg.Name == lost {
			lost = "b"
		}
		if err := w.hosts[lost].stop(); err != nil {
			t.Fatal(err)
		}
		delete(w.hosts, lost)
		h, _ := leader.node.View().Hosts.Get(lost)
		_, text, err := leader.node.CreateToken(context.Background(), fsm.TokenJoin, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		again := w.config(lost)
		if _, err := Join(context.Background(), again.cfg, leader.cfg.Name+":7000", text); !errors.Is(err, fsm.ErrExists) {
			t.Fatalf("before the removal: %v", err)
		}
		w.mustApply(leader.node, &fsm.HostRemove{Name: lost, Proof: &fsm.Proof{Kind: fsm.ProofDead, Host: lost, HostID: h.HostID, Generation: h.Generation}})
		n, err := Join(context.Background(), again.cfg, leader.cfg.Name+":7000", text)
		if err != nil {
			t.Fatal(err)
		}
		w.run(again, n)
		w.voters("a", "b", "c")
		if now, _ := w.leader().node.View().Hosts.Get(lost); now.HostID == h.HostID {
			t.Errorf("it has its old host id %d", now.HostID)
		}
	})
}

// Directly at the leader, between the removal and the step that takes the old server out, a join is not let through.
func TestNode_clearToJoin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		leader := w.leader().node
		for name, c := range map[string]struct {
			host fsm.Host
			code fsm.Code
		}{
			"another host's name": {fsm.Host{Name: "a", KeyHash: "other"}, fsm.CodeExists},
			"a retry":             {func() fsm.Host { h, _ := leader.View().Hosts.Get("b"); return h }(), ""},
			"a new name":          {fsm.Host{Name: "d", KeyHash: "k"}, ""},
		} {
			data, err := fsm.Encode(&fsm.HostJoin{Host: c.host}, "")
			if err != nil {
				t.Fatal(err)
			}
			if out, err := leader.clearToJoin(context.Background(), data); err != nil || out.Code != c.code {
				t.Errorf("%s: %+v, %v", name, out, err)
			}
		}
		stranger := leader.raft.AddNonvoter("x", "x:7000", 0, time.Second)
		if err := stranger.Error(); err != nil {
			t.Fatal(err)
		}
		if out, err := leader.oldServer(fsm.Host{Name: "x", KeyHash: "k"}); err != nil || out.Code != fsm.CodeNotReady {
			t.Errorf("a server of a host that is no member: %+v, %v", out, err)
		}
	})
}
