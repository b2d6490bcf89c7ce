package spm

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

func TestRole_snapshot(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
		base, err := r.CreateVolume(t.Context(), create("a"))
		if err != nil {
			t.Fatal(err)
		}
		image := base.Volume.Image
		snap, err := r.Snapshot(t.Context(), SnapshotRequest{Key: "s1", Image: image})
		if err != nil || !snap.Mirrored || snap.Volume.Parent != base.Volume.ID || snap.Volume.Image != image || snap.Volume.Name != "a" ||
			snap.Volume.Capacity != base.Volume.Capacity || snap.Volume.Format != domain.FormatQcow2 {
			t.Fatalf("%+v, %v", snap, err)
		}
		again, err := r.Snapshot(t.Context(), SnapshotRequest{Key: "s1", Image: image})
		if err != nil || again.Volume.ID != snap.Volume.ID {
			t.Errorf("repeated: %+v, %v", again, err)
		}
		named, err := r.Snapshot(t.Context(), SnapshotRequest{Key: "s2", Image: image, Name: "b"})
		if err != nil || named.Volume.Parent != snap.Volume.ID || named.Volume.Name != "b" {
			t.Errorf("a second layer: %+v, %v", named, err)
		}
		if !m.same(l) || m.has(base.Volume.ID).VolType != domain.Internal || m.has(snap.Volume.ID).VolType != domain.Internal {
			t.Error("the mirror differs from the disk")
		}
	})
}

func TestRole_snapshot_refused(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		a, err := r.CreateVolume(t.Context(), create("a"))
		if err != nil {
			t.Fatal(err)
		}
		l.held = a.Volume.ID
		_, err = r.Snapshot(t.Context(), SnapshotRequest{Image: a.Volume.Image})
		var held *domain.VolumeHeldError
		if !errors.As(err, &held) || held.Holder != "h2" || len(l.vols) != 1 {
			t.Errorf("a guest uses the leaf: %v", err)
		}
		l.held = ""
		const nobody = "6a1f3b52-3c53-4b4c-9c8e-6a5f2f0e9d11"
		for name, c := range map[string]struct {
			req  SnapshotRequest
			want error
		}{
			"no image":      {SnapshotRequest{Image: nobody}, domain.ErrNotFound},
			"no such image": {SnapshotRequest{Image: nobody, Domain: "data"}, domain.ErrNotFound},
			"no UUID":       {SnapshotRequest{Image: "a"}, ErrInvalid},
			"name":          {SnapshotRequest{Image: a.Volume.Image, Name: " x"}, ErrInvalid},
			"key":           {SnapshotRequest{Image: a.Volume.Image, Key: strings.Repeat("k", 256)}, ErrInvalid},
		} {
			if _, err := r.Snapshot(t.Context(), c.req); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		l.next, l.landed = domain.ErrOutcomeUnknown, true
		if rep, err := r.Snapshot(t.Context(), SnapshotRequest{Key: "s", Image: a.Volume.Image}); err != nil || rep.Volume.Parent != a.Volume.ID {
			t.Errorf("after all: %+v, %v", rep, err)
		}
	})
}

func TestLeafOf(t *testing.T) {
	t.Parallel()
	vol := func(id, volType, state string) domain.Volume {
		return domain.Volume{ID: id, Image: "i", VolType: volType, State: state}
	}
	for name, c := range map[string]struct {
		vols []domain.Volume
		leaf string
		want error
	}{
		"chain":      {[]domain.Volume{vol("a", domain.Internal, domain.StateOK), vol("b", domain.Leaf, domain.StateOK)}, "b", nil},
		"none":       {nil, "", domain.ErrNotFound},
		"template":   {[]domain.Volume{vol("a", domain.Shared, domain.StateOK)}, "", domain.ErrConflict},
		"two leaves": {[]domain.Volume{vol("a", domain.Leaf, domain.StateOK), vol("b", domain.Leaf, domain.StateOK)}, "", domain.ErrConflict},
		"unreadable": {[]domain.Volume{vol("a", domain.Leaf, domain.StateOK), vol("b", "", domain.StateUnreadable)}, "", domain.ErrConflict},
	} {
		leaf, err := leafOf(c.vols, "i")
		if !errors.Is(err, c.want) || err == nil && leaf.ID != c.leaf {
			t.Errorf("%s: %s, %v", name, leaf.ID, err)
		}
	}
}
