package leases

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// fate is what becomes of the write that fails.
type fate string

const (
	fateLost   fate = "lost"
	fateLanded fate = "landed"
	fateLate   fate = "late" // lands when nobody waits for it any more
)

func fates() []fate { return []fate{fateLost, fateLanded, fateLate} }

// faultyDevice lets one write fail with unknown outcome.
type faultyDevice struct {
	blockdev.Device
	mem     *blockdev.Mem // where a late write lands
	armed   bool
	at      int // which write from now on
	fate    fate
	dies    bool // nothing works after it
	dead    bool
	seen    int
	longest int // of the writes, in bytes
	pending atomic.Int64
}

func (b *bubble) faulty() *faultyDevice { return &faultyDevice{Device: b.mem, mem: b.mem} }

func (f *faultyDevice) Pending() int { return int(f.pending.Load()) }

func (f *faultyDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	if f.dead {
		return blockdev.ErrGone
	}
	return f.Device.ReadAt(ctx, p, off)
}

func (f *faultyDevice) WriteAt(ctx context.Context, p []byte, off int64) error {
	if f.dead {
		return blockdev.ErrGone
	}
	n := f.seen
	f.seen, f.longest = f.seen+1, max(f.longest, len(p))
	if !f.armed || n != f.at {
		return f.Device.WriteAt(ctx, p, off)
	}
	f.dead = f.dies
	switch f.fate {
	case fateLanded:
		if err := f.Device.WriteAt(ctx, p, off); err != nil {
			return err
		}
	case fateLate:
		f.landLate(ctx, p, off)
	}
	return blockdev.ErrOutcomeUnknown
}

// landLate lands p half of N after its caller has given it up, or 8N after its host has died: before 8N + W are over.
func (f *faultyDevice) landLate(ctx context.Context, p []byte, off int64) {
	own, after := append([]byte(nil), p...), Fast.Expiry()
	if deadline, ok := ctx.Deadline(); ok && !f.dies {
		after = time.Until(deadline) + Fast.IOTimeout/2
	}
	f.pending.Add(1)
	time.AfterFunc(after, func() {
		f.mem.SetBytes(off, own)
		f.pending.Add(-1)
	})
	if !f.dies {
		<-ctx.Done()
	}
}

// arm makes the write number at fail.
func (f *faultyDevice) arm(at int, fate fate, dies bool) {
	f.armed, f.at, f.fate, f.dies, f.seen = true, at, fate, dies, 0
}

// hit says whether the armed write was reached.
func (f *faultyDevice) hit() bool { return f.seen > f.at }
