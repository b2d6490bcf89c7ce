package domain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/blockdev"
)

// maxSlotless bounds how many volumes without metadata recovery removes. A crash leaves one or a few; more of them
// mean that the metadata volume is damaged, and then nothing must be removed.
const maxSlotless = 8

// recovery finishes or rolls back what a former SPM left. It runs before any request.
type recovery struct {
	w      *Writer
	report RecoveryReport
	reap   []string // LVs to remove
	gone   map[string]bool
}

func (r *recovery) run(ctx context.Context) error {
	r.gone = map[string]bool{}
	left := r.w.d.Leftovers()
	r.unborn(left)
	wipes := r.deleted(left)
	if err := r.slotless(ctx); err != nil {
		return err
	}
	if err := r.remove(ctx); err != nil {
		return err
	}
	if err := r.parents(ctx); err != nil {
		return err
	}
	return r.wipe(ctx, wipes)
}

// unborn collects LVs that carry the mark of an unfinished creation. No volume refers to them.
func (r *recovery) unborn(left []Volume) {
	for _, v := range left {
		if v.State == StateInitializing {
			r.drop(v.ID, RecoveredUnborn, "tag "+tagInitializing)
		}
	}
}

// deleted collects volumes whose deletion was committed, and returns those that must be wiped first.
func (r *recovery) deleted(left []Volume) (wipes []Volume) {
	for _, v := range left {
		switch v.State {
		case StateRemoving:
			r.drop(v.ID, RecoveredDelete, "image "+v.Image)
		case StateWiping:
			wipes = append(wipes, v)
		}
	}
	return wipes
}

// drop puts an LV on the list of those to remove, unless it is one that this package must not touch.
func (r *recovery) drop(id, kind, detail string) {
	if lv := r.w.d.group.VG().LV(id); lv == nil || lv.Foreign {
		r.report.add(LeftAlone, id, "not a plain linear LV, remove it with LVM: "+kind)
		return
	}
	r.reap = append(r.reap, id)
	r.gone[id] = true
	r.report.add(kind, id, detail)
}

// slotless collects volumes whose LV has its tags but whose metadata was never written: the creator died in between.
// It takes proof: an empty slot of their own, or one that still describes another image, no child, and a lease that is
// not theirs, since the lease is written last.
func (r *recovery) slotless(ctx context.Context) error {
	var found []Volume
	for _, v := range r.w.d.Volumes() {
		if r.neverWritten(&v) {
			found = append(found, v)
		}
	}
	if len(found) > maxSlotless {
		r.report.add(LeftAlone, "", fmt.Sprintf("%d volumes have no metadata: too many for a crash, the metadata volume may be damaged", len(found)))
		return nil
	}
	for _, v := range found {
		owned, err := r.leaseOwned(ctx, &v)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.report.add(LeftAlone, v.ID, "metadata was never written, and its lease cannot be judged: "+err.Error())
		case owned:
			r.report.add(LeftAlone, v.ID, "metadata is lost: the volume has its lease, so it was complete")
		default:
			r.drop(v.ID, RecoveredSlotless, fmt.Sprintf("slot %d", v.Slot))
		}
	}
	return nil
}

// neverWritten tells whether tags and slot look like those of a creation that was interrupted in between.
func (r *recovery) neverWritten(v *Volume) bool {
	if v.State != StateUnreadable || v.Slot == 0 || r.sharesSlot(v) || r.hasChild(v.ID) {
		return false
	}
	var stale *foreignSlotError
	if errors.As(v.cause, &stale) {
		return stale.ctime < v.CreatedUnix // the LV is younger than what the slot describes
	}
	return errors.Is(v.cause, ErrSlotEmpty)
}

func (r *recovery) sharesSlot(v *Volume) bool {
	for _, o := range r.w.d.list(func(o *Volume) bool { return o.Slot == v.Slot && o.ID != v.ID }) {
		if o.State != StateInitializing {
			return true
		}
	}
	return false
}

func (r *recovery) hasChild(id string) bool {
	kids := r.w.d.list(func(o *Volume) bool { return o.exists() && !r.gone[o.ID] && slices.Contains(o.parents(), id) })
	return len(kids) > 0
}

// leaseOwned tells whether the lease of the volume's slot is its own. A device that did not answer proves nothing and is
// an error; whatever else a reader objects to is no lease of the volume.
func (r *recovery) leaseOwned(ctx context.Context, v *Volume) (bool, error) {
	if r.w.d.opt.Leases == nil {
		return false, errors.New("no reader of leases")
	}
	dev, off, err := r.w.d.VolumeResource(v.Slot)
	if err != nil {
		return false, err
	}
	watch := readWatch{Device: dev}
	var space, name string
	err = r.w.d.io.steps(ctx, func(ctx context.Context) (err error) {
		space, name, err = r.w.d.opt.Leases.ReadResource(ctx, &watch, off)
		return err
	})
	if watch.failed != nil {
		return false, watch.failed
	}
	return err == nil && space == r.w.d.uuid() && name == v.ID, nil
}

// readWatch notes the failed reads of one caller, who need not tell them apart from what it finds wrong in the data.
type readWatch struct {
	blockdev.Device
	failed error
}

func (w *readWatch) ReadAt(ctx context.Context, p []byte, off int64) error {
	err := w.Device.ReadAt(ctx, p, off)
	w.failed = errors.Join(w.failed, err)
	return err
}

// remove removes what was collected, in one commit.
func (r *recovery) remove(ctx context.Context) error {
	if len(r.reap) == 0 {
		return nil
	}
	if err := r.w.reap(ctx, r.reap); err != nil {
		return fmt.Errorf("removing %s: %w", strings.Join(r.reap, ", "), err)
	}
	for _, id := range r.reap {
		r.w.d.forget(id)
	}
	return nil
}

// parents makes volumes leaves again that were marked internal for a child which is not there. Where anything about
// the image is unclear it stays as it is.
func (r *recovery) parents(ctx context.Context) error {
	vols := r.w.d.Volumes()
	x := newIndex(r.w.d)
	murky := map[string]bool{} // images with a leaf, or with something unreadable
	for _, v := range vols {
		if v.State != StateOK || v.VolType == Leaf {
			murky[v.Image] = true
		}
	}
	for _, v := range vols {
		if v.VolType != Internal || v.Legality != Legal || x.children[v.ID] > 0 || murky[v.Image] || x.slots[v.Slot] != 1 {
			continue
		}
		if err := r.w.setVolType(ctx, &v, "LEAF"); err != nil {
			return fmt.Errorf("making volume %s a leaf again: %w", v.ID, err)
		}
		v.VolType = Leaf
		r.w.d.put(v)
		r.report.add(RecoveredParent, v.ID, "image "+v.Image)
	}
	return nil
}
