package spm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

// Cluster is what a RaftMirror needs of the node.
type Cluster interface {
	// Apply commits a command, on any host, and returns its outcome.
	Apply(ctx context.Context, cmd fsm.Command) (fsm.Outcome, error)
	// View is the replicated state as this host has applied it.
	View() *fsm.State
}

// RaftMirror is the Mirror in Raft.
type RaftMirror struct {
	Cluster Cluster
	Host    string
	HostID  int
	Now     func() time.Time
	Log     *slog.Logger
}

// errTooOld keeps entries queued on a host that must be upgraded.
var errTooOld = errors.New("the mirror of this host stopped: upgrade it")

// apply commits one command. A refusal is an answer, not a reason to try again: the mirror already knows better.
func (m *RaftMirror) apply(ctx context.Context, cmd fsm.Command) (fsm.Outcome, error) {
	out, err := m.Cluster.Apply(ctx, cmd)
	switch {
	case err != nil:
		return out, err
	case out.Code == fsm.CodeTooOld:
		return out, errTooOld
	case out.Code != "":
		m.Log.Warn("mirror entry refused", "code", out.Code, "message", out.Message)
	}
	for _, r := range out.Refused {
		m.Log.Debug("mirror entry refused", "volume", r.ID, "code", r.Code, "message", r.Message)
	}
	return out, nil
}

// Serving records that this host serves. An epoch recorded in the meantime is compared once more; a newer one wins.
func (m *RaftMirror) Serving(ctx context.Context, epoch uint64, _ domain.Info) (uint64, error) {
	pool, ok := m.Cluster.View().Pool()
	if !ok {
		return 0, nil // the pool is being set up; the manager records the role later
	}
	expect := pool.SPM.Epoch
	for range 3 {
		if expect > epoch {
			return 0, nil
		}
		out, err := m.Cluster.Apply(ctx, &fsm.SPMUpdate{Pool: pool.ID, ExpectEpoch: expect, Time: m.Now().UnixNano(),
			SPM: fsm.SPM{Host: m.Host, HostID: m.HostID, Epoch: epoch, State: fsm.SPMServing, Reason: pool.SPM.Reason}})
		if err != nil {
			return 0, err
		}
		if out.Code != fsm.CodeConflict {
			return out.Index, nil
		}
		expect = out.Epoch
	}
	return 0, fmt.Errorf("the recorded SPM epoch keeps changing, last %d", expect)
}

// Describe records what the domain says about itself and keeps what only the mirror knows.
func (m *RaftMirror) Describe(ctx context.Context, epoch, seq uint64, info Description) (uint64, error) {
	old, known := m.Cluster.View().Domains.Get(info.UUID)
	d := fsm.Domain{ID: info.UUID, Name: info.Name, Type: "block", Role: info.Role, Status: "active", Version: info.Version,
		Size: info.Size, Free: info.Free, ExtentSize: info.ExtentSize, SectorSize: info.SectorSize, LUNs: info.LUNs,
		Epoch: epoch, Seq: seq, Waiting: info.Waiting, Needed: info.Needed}
	if known {
		d.Type, d.Role, d.Status = old.Type, old.Role, old.Status
		if len(d.LUNs) == 0 {
			d.LUNs = old.LUNs
		}
	}
	out, err := m.apply(ctx, &fsm.DomainPut{Domain: d})
	return out.Index, err
}

// Put adds or replaces volumes.
func (m *RaftMirror) Put(ctx context.Context, domainID string, vols []domain.Volume) (uint64, error) {
	out, err := m.apply(ctx, &fsm.VolumesPut{Volumes: m.mirrored(domainID, vols)})
	return out.Index, err
}

// Remove takes volumes out.
func (m *RaftMirror) Remove(ctx context.Context, domainID string, gone []domain.VolumeRemoved) (uint64, error) {
	refs := make([]fsm.VolumeRef, len(gone))
	for i, g := range gone {
		refs[i] = fsm.VolumeRef{Domain: domainID, ID: g.ID, Epoch: g.Epoch, Seq: g.Seq}
	}
	out, err := m.apply(ctx, &fsm.VolumesRemove{Volumes: refs})
	return out.Index, err
}

// Replace makes the mirror of a domain equal to vols.
func (m *RaftMirror) Replace(ctx context.Context, domainID string, epoch, seq uint64, vols []domain.Volume) (Difference, error) {
	out, err := m.apply(ctx, &fsm.MirrorReplace{Domain: domainID, Epoch: epoch, Seq: seq, Volumes: m.mirrored(domainID, vols),
		Host: m.Host, Time: m.Now().UnixNano(), RecordEvents: true})
	return Difference{Added: out.Added, Removed: out.Removed, Index: out.Index}, err
}

// mirrored converts volumes; those that are no volumes yet or any more are left out. One whose metadata cannot be read now is
// still what it was: its name and the like stay as the mirror has them.
func (m *RaftMirror) mirrored(domainID string, vols []domain.Volume) []fsm.Volume {
	out := make([]fsm.Volume, 0, len(vols))
	st := m.Cluster.View()
	for _, v := range vols {
		switch v.State {
		case domain.StateRemoving, domain.StateWiping, domain.StateInitializing:
			continue
		}
		mv := MirrorVolume(domainID, v)
		if old, known := st.Volume(domainID, v.ID); known && v.State == domain.StateUnreadable {
			old.Allocated, old.Slot, old.Epoch, old.Seq = mv.Allocated, mv.Slot, mv.Epoch, mv.Seq
			mv = old
		}
		out = append(out, mv)
	}
	return out
}

// MirrorVolume is a volume as the mirror keeps it.
func MirrorVolume(domainID string, v domain.Volume) fsm.Volume {
	return fsm.Volume{ID: v.ID, Image: v.Image, Domain: domainID, Name: v.Name, Description: v.Description, Format: v.Format,
		Allocation: v.Allocation, Parent: v.Parent, Legality: v.Legality, VolType: v.VolType, Size: v.Capacity,
		Allocated: v.AllocatedBytes, Slot: v.Slot, Created: v.CreatedUnix * int64(time.Second), Epoch: v.Epoch, Seq: v.Seq}
}
