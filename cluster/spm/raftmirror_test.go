package spm

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

// raft is a Cluster of one without raft: the real state machine.
type raft struct {
	mu    sync.Mutex
	fsm   *fsm.FSM
	index uint64
}

func (r *raft) View() *fsm.State { return r.fsm.View() }

func (r *raft) Apply(_ context.Context, cmd fsm.Command) (fsm.Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := fsm.Encode(cmd, "")
	if err != nil {
		return fsm.Outcome{}, err
	}
	r.index++
	return r.fsm.Apply(r.index, b).(fsm.Outcome), nil
}

// newRaft makes a cluster with one host and a pool.
func newRaft(t testing.TB) *raft {
	t.Helper()
	r := &raft{fsm: fsm.New()}
	for _, c := range []fsm.Command{
		&fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: 1, Host: fsm.Host{Name: "h1"}},
		&fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Name: "p", Master: "dom", Profile: "dev"}},
	} {
		out, err := r.Apply(t.Context(), c)
		if err = errors.Join(err, out.Err()); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *raft) mirror(host string, id int) *RaftMirror {
	return &RaftMirror{Cluster: r, Host: host, HostID: id, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

func vol(id string, epoch, seq uint64) domain.Volume {
	return domain.Volume{ID: id, Name: id, State: domain.StateOK, Epoch: epoch, Seq: seq}
}

// A volume whose metadata cannot be read now keeps its name in the mirror, also over a takeover; one that was never read has none.
func TestRaftMirror_unreadable(t *testing.T) {
	t.Parallel()
	r, ctx := newRaft(t), t.Context()
	a, b := r.mirror("h1", 1), r.mirror("h2", 2)
	info := domain.Info{UUID: "dom", Name: "data", Role: "Master", Version: 5}
	v := vol("v1", 1, 2)
	v.Description, v.Capacity, v.AllocatedBytes = "text", 1<<30, 1<<27
	_, err1 := a.Serving(ctx, 1, info)
	_, err2 := a.Describe(ctx, 1, 1, Description{Info: info})
	_, err3 := a.Put(ctx, "dom", []domain.Volume{v})
	_, err4 := b.Serving(ctx, 2, info)
	lost := domain.Volume{ID: "v1", State: domain.StateUnreadable, Slot: 1, AllocatedBytes: 1 << 28, Epoch: 2, Seq: 1}
	_, err5 := b.Replace(ctx, "dom", 2, 1, []domain.Volume{lost, {ID: "v2", State: domain.StateUnreadable, Slot: 2, Epoch: 2, Seq: 1}})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	got, _ := r.View().Volume("dom", "v1")
	if got.Name != "v1" || got.Description != "text" || got.Size != 1<<30 || got.Allocated != 1<<28 || got.Slot != 1 || got.Epoch != 2 {
		t.Errorf("the mirror has %+v", got)
	}
	if other, ok := r.View().Volume("dom", "v2"); !ok || other.Name != "" {
		t.Errorf("of a volume that was never read the mirror has %+v, %v", other, ok)
	}
}

// A takeover adds what is on disk and not in the mirror, removes the reverse, and refuses what comes late.
func TestRaftMirror_takeover(t *testing.T) {
	t.Parallel()
	r, ctx := newRaft(t), t.Context()
	a, b := r.mirror("h1", 1), r.mirror("h2", 2)
	info := domain.Info{UUID: "dom", Name: "data", Role: "Master", Version: 5}
	must := func(_ uint64, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.Describe(ctx, 4, 0, Description{Info: info}))
	must(a.Serving(ctx, 4, info))
	must(a.Put(ctx, "dom", []domain.Volume{vol("stays", 4, 1), vol("gone", 4, 2)}))
	// On disk a has removed "gone" and made "new"; both entries did not come through before the role moved.
	must(b.Describe(ctx, 5, 0, Description{Info: info}))
	diff, err := b.Replace(ctx, "dom", 5, 0, []domain.Volume{vol("stays", 0, 0), vol("new", 0, 0), {ID: "half", State: domain.StateInitializing}})
	if err != nil || len(diff.Added) != 1 || diff.Added[0] != "new" || len(diff.Removed) != 1 || diff.Removed[0] != "gone" || diff.Index == 0 {
		t.Fatalf("%+v, %v", diff, err)
	}
	must(b.Serving(ctx, 5, info))
	if n := len(r.View().Events()); n != 2 {
		t.Fatalf("%d events for two differences", n)
	}
	// The late ones of a change nothing, and are no reason to try again.
	must(a.Put(ctx, "dom", []domain.Volume{vol("gone", 4, 2)}))
	must(a.Remove(ctx, "dom", []domain.VolumeRemoved{{ID: "stays", Epoch: 4, Seq: 9}}))
	must(a.Serving(ctx, 4, info))
	if n := len(r.View().VolumesOf("dom")); n != 2 {
		t.Fatalf("%d volumes", n)
	}
	if p, _ := r.View().Pool(); p.SPM.Host != "h2" || p.SPM.Epoch != 5 || p.SPM.State != fsm.SPMServing {
		t.Fatalf("%+v", p.SPM)
	}
}
