package leases

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// ResourceSpec says where a resource's lease lies.
type ResourceSpec struct {
	Name   string
	Device blockdev.Device
	// Offset is where the area starts on Device, in bytes.
	Offset int64
	// NoWait makes Acquire fail with ErrHeld where it would otherwise wait for a silent owner to be dead.
	NoWait bool
	// MinVersion is the least version that an exclusive lease is to have; Acquire raises it to that. A lease that takes the place of
	// another one has to go on counting where that one ends.
	MinVersion uint64
	// LVB reads the lock value block with the lease and writes it back, if it was set, when the exclusive lease ends.
	// It is refused (ErrLVB) where the area has no room for one: anything but 512-byte sectors or areas of 8 MiB.
	LVB bool
}

// resource is what a lockspace remembers of one lease area between calls.
type resource struct {
	ls   *Lockspace
	spec ResourceSpec
	name Name
	geo  Geometry

	mu       sync.Mutex // guards state to lvbDirty
	state    resourceState
	sharedAt uint64 // version at which the shared lease was taken, 0 = none
	lvb      []byte // the lock value block as read or set, nil = not asked for
	lvbDirty bool

	// The rest belongs to the call that set state to busy, or to nobody.
	sectors   int           // how many sectors an area read needs, as far as known
	leader    Leader        // as committed, while held or in doubt
	block     DBlock        // our host block as last written, without its mode
	shared    bool          // our host block says SHARED: every write of it has to
	tried     uint64        // version of the last ballot
	unsettled bool          // a write has an unknown outcome
	settleAt  time.Duration // not before this boot time may another write be sent after it
}

// firstRead is how many bytes of an area are read before it is known how many hosts take part. It holds the leases that
// Holdfast makes on 512-byte sectors.
const firstRead = 128 << 10

type resourceState int

const (
	stateIdle        resourceState = iota
	stateBusy                      // a call is under way
	stateHeld                      // ours
	stateDoubt                     // not ours to use, but the disk may still say so: Settle will undo it
	stateShared                    // ours together with others
	stateSharedDoubt               // the same, but the leader may name us as exclusive owner: Settle will undo that
)

// inUse says whether the lockspace must not be left yet.
func (r *resource) inUse() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state != stateIdle && r.state != stateDoubt
}

// begin moves from one of the given states to busy and returns the one it was in.
func (r *resource) begin(from ...resourceState) (resourceState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range from {
		if r.state == s {
			r.state = stateBusy
			return s, nil
		}
	}
	switch r.state {
	case stateHeld, stateShared, stateSharedDoubt:
		return r.state, fmt.Errorf("resource %s: %w", r.spec.Name, ErrHeldHere)
	case stateIdle:
		return r.state, fmt.Errorf("resource %s: %w", r.spec.Name, ErrNotHeld)
	}
	return r.state, fmt.Errorf("resource %s: %w", r.spec.Name, ErrBusy)
}

func (r *resource) end(s resourceState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = s
	if s == stateIdle || s == stateDoubt {
		r.sharedAt = 0
	}
}

// resting is the state without any exclusive lease, doubt the same while the disk may still say otherwise.
func (r *resource) resting() resourceState {
	if r.shared {
		return stateShared
	}
	return stateIdle
}

func (r *resource) doubt() resourceState {
	if r.shared {
		return stateSharedDoubt
	}
	return stateDoubt
}

// unusable is the state after a call that found the lease of the lockspace run out. A lost lockspace is never written to
// again. But one that has only run into its margin may renew, and then the disk would say for ever that we hold what
// nobody here holds.
func (r *resource) unusable(otherwise resourceState) resourceState {
	if r.ls.over() {
		return otherwise
	}
	return r.doubt()
}

// resource finds or makes the memory of a lease area.
func (ls *Lockspace) resource(spec ResourceSpec) (*resource, error) {
	r, err := ls.viewer(spec)
	if err != nil {
		return nil, err
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if have := ls.leases[r.key()]; have != nil {
		return have, nil
	}
	ls.leases[r.key()] = r
	return r, nil
}

// readArea reads the leader and as many host blocks as take part, in one read where the size is known already. The
// caller gives the buffer back with putBuffer.
func (r *resource) readArea(ctx context.Context) ([]byte, Leader, error) {
	buf, err := r.readSectors(ctx, r.sectors)
	if err != nil {
		return nil, Leader{}, err
	}
	return r.wholeArea(ctx, buf)
}

// wholeArea decodes the leader in buf, the area as far as it was read, and reads again if there is more of it.
func (r *resource) wholeArea(ctx context.Context, buf []byte) ([]byte, Leader, error) {
	l, err := r.decodeLeader(buf)
	if err != nil {
		r.ls.putBuffer(buf)
		return nil, l, err
	}
	r.sectors = int(l.NumHosts) + 2
	if r.sectors*r.geo.SectorSize > len(buf) {
		r.ls.putBuffer(buf)
		return r.readArea(ctx)
	}
	return buf, l, nil
}

// readSectors reads the first n sectors of the area.
func (r *resource) readSectors(ctx context.Context, n int) ([]byte, error) {
	rctx, cancel, err := r.ls.usable(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	buf := r.ls.getBuffer(n * r.geo.SectorSize)
	if err := r.spec.Device.ReadAt(rctx, buf, r.spec.Offset); err != nil {
		r.ls.putBuffer(buf)
		return nil, fmt.Errorf("reading resource %s: %w", r.spec.Name, err)
	}
	return buf, nil
}

// decodeLeader decodes and verifies the leader at the start of b, for our host id.
func (r *resource) decodeLeader(b []byte) (Leader, error) {
	var l Leader
	if err := l.Decode(b); err != nil {
		return l, err
	}
	if err := l.verifyResource(b, r.ls.space, r.name, r.ls.cfg.HostID); err != nil {
		return l, fmt.Errorf("resource %s at %d on %s: %w", r.spec.Name, r.spec.Offset, r.spec.Device.Name(), err)
	}
	if g, err := geometryOf(&l); err != nil || g != r.geo {
		return l, fmt.Errorf("resource %s: %w: %+v in lockspace with %+v", r.spec.Name, ErrGeometry, g, r.geo)
	}
	return l, nil
}

// readLeader reads sector 0 alone.
func (r *resource) readLeader(ctx context.Context) (Leader, error) {
	buf, err := r.readSectors(ctx, 1)
	if err != nil {
		return Leader{}, err
	}
	defer r.ls.putBuffer(buf)
	return r.decodeLeader(buf)
}

// readBlock reads the block of host h alone.
func (r *resource) readBlock(ctx context.Context, h int) (DBlock, error) {
	var d DBlock
	rctx, cancel, err := r.ls.usable(ctx)
	if err != nil {
		return d, err
	}
	defer cancel()
	buf := r.ls.getBuffer(r.geo.SectorSize)
	defer r.ls.putBuffer(buf)
	if err := r.spec.Device.ReadAt(rctx, buf, r.spec.Offset+r.geo.sector(h+1)); err != nil {
		return d, fmt.Errorf("reading block of host %d in resource %s: %w", h, r.spec.Name, err)
	}
	return d, d.Decode(buf)
}

// writeBlock writes our host block.
func (r *resource) writeBlock(ctx context.Context, d DBlock) error {
	return r.putBlock(ctx, d, blockdev.FlushStep())
}

// writeBlockAndRead writes our host block, durably, and then reads n sectors of the area.
func (r *resource) writeBlockAndRead(ctx context.Context, d DBlock, n int) ([]byte, error) {
	buf := r.ls.getBuffer(n * r.geo.SectorSize)
	if err := r.putBlock(ctx, d, blockdev.FlushStep(), blockdev.ReadStep(buf, r.spec.Offset)); err != nil {
		r.ls.putBuffer(buf)
		return nil, err
	}
	return buf, nil
}

// putBlock writes our host block, with the mode that r.shared says, and takes the steps after it.
func (r *resource) putBlock(ctx context.Context, d DBlock, after ...blockdev.Step) error {
	buf := r.ls.getBuffer(r.geo.SectorSize)
	defer r.ls.putBuffer(buf)
	r.block = d // also when the write fails: it may have landed
	d.ModeFlags, d.ModeGeneration = 0, 0
	forget := r.ls.cfg.Bugs.ForgetShared && d.Flags == 0 || r.ls.cfg.Bugs.FreeBeforeShare
	if r.shared && !forget {
		d.ModeFlags, d.ModeGeneration = flagShared, r.ls.generation
	}
	d.Encode(buf)
	if err := r.writeSector(ctx, r.ls.cfg.HostID+1, buf, after...); err != nil {
		return fmt.Errorf("writing our block in resource %s: %w", r.spec.Name, err)
	}
	return nil
}

// writeLeader writes sector 0.
func (r *resource) writeLeader(ctx context.Context, l *Leader) error {
	buf := r.ls.getBuffer(r.geo.SectorSize)
	defer r.ls.putBuffer(buf)
	clear(buf)
	l.Encode(buf)
	if err := r.writeSector(ctx, 0, buf, blockdev.FlushStep()); err != nil {
		return fmt.Errorf("writing leader of resource %s: %w", r.spec.Name, err)
	}
	return nil
}

// writeSector writes one sector and takes the steps after it, unless an earlier write may still be on its way: landing
// later, it would undo this one.
func (r *resource) writeSector(ctx context.Context, i int, buf []byte, after ...blockdev.Step) error {
	if err := r.settled(); err != nil {
		return err
	}
	wctx, cancel, err := r.ls.usable(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	steps := append([]blockdev.Step{blockdev.WriteStep(buf, r.spec.Offset+r.geo.sector(i))}, after...)
	err = blockdev.Do(wctx, r.spec.Device, steps...)
	if maybeDone(err) && !r.ls.cfg.Bugs.IgnoreLateWrite {
		r.unsettled, r.settleAt = true, r.ls.now()+r.ls.cfg.Profile.IOTimeout
	}
	return err
}

// settled refuses while a write of ours may still land.
func (r *resource) settled() error {
	if !r.unsettled {
		return nil
	}
	if r.spec.Device.Pending() > 0 || r.ls.now() < r.settleAt {
		return fmt.Errorf("resource %s: %w", r.spec.Name, ErrBusy)
	}
	r.unsettled = false
	return nil
}

func (ls *Lockspace) getBuffer(n int) []byte {
	if b, ok := ls.buffers.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:n]
	}
	return make([]byte, n)
}

func (ls *Lockspace) putBuffer(b []byte) { ls.buffers.Put(&b) }
