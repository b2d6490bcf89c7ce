package crash

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// snapshot is all of a domain that an operation may change.
type snapshot struct {
	d      *domain.Domain // that it was read from
	vols   map[string]domain.Volume
	leases map[string]int // external lease -> its place
	free   int64          // bytes in free extents
	slots  int            // free metadata slots
	luns   int
}

// take reads it from the LUN.
func take(ctx context.Context, lun blockdev.Device) (*snapshot, error) {
	d, err := openDomain(ctx, lun, domainOptions())
	if err != nil {
		return nil, fmt.Errorf("opening the domain: %w", err)
	}
	dev, err := d.Device("xleases")
	if err != nil {
		return nil, err
	}
	x, err := externalLeases(dev)
	if err != nil {
		return nil, err
	}
	index, err := x.Load(ctx)
	if err != nil {
		return nil, err
	}
	info := d.Info()
	s := &snapshot{d: d, vols: volumes(d.Volumes()), leases: map[string]int{}, free: info.Free, slots: info.FreeSlots, luns: len(info.LUNs)}
	for _, r := range index.Records() {
		s.leases[r.ID] = r.N
	}
	for _, v := range d.Leftovers() {
		return s, fmt.Errorf("volume %s is left in state %s", v.ID, v.State)
	}
	return s, nil
}

// volumes without what only the process that changed them knows.
func volumes(list []domain.Volume) map[string]domain.Volume {
	m := map[string]domain.Volume{}
	for _, v := range list {
		v.Epoch, v.Seq = 0, 0
		m[v.ID] = v
	}
	return m
}

// differs tells what in got is not as in s.
func (s *snapshot) differs(got *snapshot) error {
	var errs []error
	for id, v := range s.vols {
		switch g, ok := got.vols[id]; {
		case !ok:
			errs = append(errs, fmt.Errorf("volume %s is gone", id))
		case g != v:
			errs = append(errs, fmt.Errorf("volume %s is %+v, want %+v", id, g, v))
		}
	}
	for id := range got.vols {
		if _, ok := s.vols[id]; !ok {
			errs = append(errs, fmt.Errorf("volume %s should not be there", id))
		}
	}
	if !maps.Equal(s.leases, got.leases) {
		errs = append(errs, fmt.Errorf("external leases %v, want %v", got.leases, s.leases))
	}
	if s.free != got.free {
		errs = append(errs, fmt.Errorf("%d bytes are free, want %d: extents have leaked or belong to two", got.free, s.free))
	}
	if s.luns != got.luns {
		errs = append(errs, fmt.Errorf("%d LUNs, want %d", got.luns, s.luns))
	}
	if s.slots != got.slots {
		errs = append(errs, fmt.Errorf("%d slots are free, want %d", got.slots, s.slots))
	}
	return errors.Join(errs...)
}

// agrees holds a snapshot against what was asked for: the steps that are judged must not be the only judge.
func (s *snapshot) agrees(w *world) error {
	if len(s.vols) != len(w.vols) || len(s.leases) != len(w.leases) {
		return fmt.Errorf("%d volumes and %d leases, asked for were %d and %d", len(s.vols), len(s.leases), len(w.vols), len(w.leases))
	}
	if s.luns != 1+w.added {
		return fmt.Errorf("%d LUNs, %d were added", s.luns, w.added)
	}
	children := map[string]int{}
	for _, v := range w.vols {
		children[v.parent]++
	}
	for _, want := range w.vols {
		v, ok := s.vols[want.id]
		typ := domain.Leaf
		if children[want.id] > 0 {
			typ = domain.Internal
		}
		if !ok || v.State != domain.StateOK || v.Legality != domain.Legal || v.Image != want.image || v.Parent != want.parent ||
			v.ParentTag != want.parent || v.Format != want.format || v.VolType != typ || v.Name != want.name || v.Description != want.text ||
			v.AllocatedBytes != want.allocated {
			return fmt.Errorf("volume %+v was asked for as %+v, %s", v, want, typ)
		}
	}
	for _, id := range w.leases {
		if _, ok := s.leases[id]; !ok {
			return fmt.Errorf("lease %s was asked for", id)
		}
	}
	return nil
}

var seed = maphash.MakeSeed()

// sum is the same for equal snapshots.
func (s *snapshot) sum() uint64 {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s.vols)) {
		fmt.Fprintf(&b, "%+v\n", s.vols[id])
	}
	for _, id := range slices.Sorted(maps.Keys(s.leases)) {
		fmt.Fprintf(&b, "%s %d\n", id, s.leases[id])
	}
	fmt.Fprintf(&b, "%d %d %d", s.free, s.slots, s.luns)
	return maphash.String(seed, b.String())
}
