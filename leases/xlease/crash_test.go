package xlease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// operation is something that a crash may cut short.
type operation func(ctx context.Context, b *bench) error

func addOp(ctx context.Context, b *bench) error {
	_, _, err := b.Add(ctx, idOf(2))
	return err
}

func removeOp(ctx context.Context, b *bench) error {
	if _, err := b.Remove(ctx, idOf(2)); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

func rebuildOp(ctx context.Context, b *bench) error {
	_, err := b.Rebuild(ctx, RebuildOptions{Hosts: b.hosts})
	return err
}

func formatOp(ctx context.Context, b *bench) error { return b.Format(ctx) }

// hastyRebuild is Rebuild with its last two steps the wrong way round.
func hastyRebuild(ctx context.Context, b *bench) error {
	r := &rebuild{v: b.Volume, o: RebuildOptions{Hosts: b.hosts}}
	for _, step := range []func(context.Context) error{r.load, r.look, r.refuse, r.mark, r.decide} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return errors.Join(b.writeAll(ctx, r.index), r.carryOut(ctx))
}

// crashCase is an operation, the state it begins in, and what must hold whenever it is cut short.
type crashCase struct {
	prepare func(b *bench)
	op      operation
	// bystander says that leases 1 and 3 are there throughout and their resources do not change by a byte.
	bystander bool
	// readable says that the index can be used after a crash at any moment.
	readable bool
	// has says whether lease 2 is there when the operation is done.
	has bool
}

// crash runs the operation, and for every moment at which it may be cut short checks what is left and does it again.
func (c crashCase) crash(t *testing.T, geo leases.Geometry) error {
	t.Helper()
	b := emptyVolume(t, geo, 4)
	c.prepare(b)
	base := b.mem.Clone()
	rec := faulty.NewRecorder(b.mem)
	b.on(rec, geo)
	if err := c.op(testutil.Deadline(t), b); err != nil {
		t.Fatal(err)
	}
	done := b.index()
	states := 0
	for n := 0; n <= rec.Len(); n++ {
		for _, torn := range cuts(rec.Sectors(n)) {
			if err := c.after(b, base, rec.Replay(base, n, torn), done); err != nil {
				return fmt.Errorf("%d writes and %d sectors: %w", n, torn, err)
			}
			states++
		}
		// A cache that loses some of the writes which no flush covered.
		for _, lost := range rec.Volatile(n) {
			if err := c.after(b, base, rec.ReplayKeep(base, n, func(seq int) bool { return seq != lost }), done); err != nil {
				return fmt.Errorf("%d writes without number %d: %w", n, lost, err)
			}
			states++
		}
	}
	if t.Logf("%d writes and flushes, %d states", rec.Len(), states); rec.Stats().Writes < 2 {
		return errors.New("the operation hardly writes anything")
	}
	return nil
}

// cuts are the places where a write of n sectors is torn: all for a short one, some for a long one.
func cuts(n int) []int {
	out := []int{0}
	for i := 1; i < n; i++ {
		if n < 32 || i < 4 || i > n-3 || i%(n/8) == 0 {
			out = append(out, i)
		}
	}
	return out
}

// after judges one state and goes on from it.
func (c crashCase) after(b *bench, base, mem *blockdev.Mem, done []byte) error {
	v := &bench{t: b.t, mem: mem, ids: b.ids, seen: b.seen}
	v.on(mem, b.geo)
	ctx := testutil.Deadline(b.t)
	if err := c.judge(ctx, v, base); err != nil {
		return err
	}
	if err := c.op(ctx, v); err != nil {
		return fmt.Errorf("doing it again: %w", err)
	}
	if !bytes.Equal(v.index(), done) {
		return errors.New("done again, the index is another one")
	}
	if err := v.whole(ctx); err != nil {
		return fmt.Errorf("done again: %w", err)
	}
	if _, err := v.Lookup(ctx, idOf(2)); (err == nil) != c.has {
		return fmt.Errorf("done again: %w", err)
	}
	return nil
}

// whole says what the check finds that is not harmless.
func (b *bench) whole(ctx context.Context) error {
	problems, err := b.Check(ctx)
	for _, p := range problems {
		if !p.Harmless {
			err = errors.Join(err, errors.New(p.Where+": "+p.What))
		}
	}
	return err
}

// judge looks at what a crash has left.
func (c crashCase) judge(ctx context.Context, v *bench, base *blockdev.Mem) error {
	x, err := v.Load(ctx)
	if err != nil && c.readable {
		return fmt.Errorf("the index cannot be used: %w", err)
	}
	if err == nil {
		// What can be found can be taken.
		for _, r := range x.Records() {
			if got := v.resource(r.N); got != r.ID {
				return fmt.Errorf("lease %s has the resource %q", r.ID, got)
			}
		}
	}
	for n := 0; c.bystander && n <= 2; n += 2 {
		off := resourceOffset(n, v.geo.AlignSize)
		if !bytes.Equal(base.Bytes(off, v.geo.AlignSize), v.mem.Bytes(off, v.geo.AlignSize)) {
			return fmt.Errorf("the resource of lease %d has changed", n+1)
		}
		if err == nil {
			if r, err := x.Lookup(idOf(n + 1)); err != nil || r.N != n {
				return fmt.Errorf("lease %d is lost: %+v, %w", n+1, r, err)
			}
		}
	}
	return nil
}

// three makes leases 1 to 3.
func three(b *bench) {
	if err := b.Format(testutil.Deadline(b.t)); err != nil {
		b.t.Fatal(err)
	}
	b.add(idOf(1), idOf(2), idOf(3))
}

// two makes leases 1 and 3, in the places 0 and 2.
func two(b *bench) {
	three(b)
	if _, err := b.Remove(testutil.Deadline(b.t), idOf(2)); err != nil {
		b.t.Fatal(err)
	}
}

func crashCases() map[string]crashCase {
	return map[string]crashCase{
		"add":    {prepare: two, op: addOp, bystander: true, readable: true, has: true},
		"remove": {prepare: three, op: removeOp, bystander: true, readable: true},
		"add where a remove left its resource": {prepare: func(b *bench) {
			two(b)
			b.setResource(1, testSpace, idOf(7))
		}, op: addOp, bystander: true, readable: true, has: true},
		"format a used LUN": {prepare: func(b *bench) { b.mem.SetBytes(0, bytes.Repeat([]byte("stale "), int(4*b.geo.AlignSize/6))) }, op: formatOp},
		"format again":      {prepare: three, op: formatOp},
		"rebuild": {prepare: func(b *bench) {
			three(b)
			b.setRecord(1, garbage)
			b.setResource(3, testSpace, idOf(8))
		}, op: rebuildOp, bystander: true, has: true},
		"rebuild of what has no resource": {prepare: func(b *bench) {
			three(b)
			b.mem.SetZero(resourceOffset(1, b.geo.AlignSize), b.geo.AlignSize)
			b.mem.SetBytes(b.indexOffset()+70, []byte{'u'})
		}, op: rebuildOp, bystander: true, has: true},
	}
}

// TestVolume_crashAtEveryWrite: whatever is cut short, the next operation gets on, and nothing else is lost.
func TestVolume_crashAtEveryWrite(t *testing.T) {
	t.Parallel()
	for geoName, geo := range map[string]leases.Geometry{"512-1M": leases.Geometry512, "4096-1M": {SectorSize: 4096, AlignSize: mib}} {
		for name, c := range crashCases() {
			t.Run(geoName+" "+name, func(t *testing.T) {
				t.Parallel()
				if err := c.crash(t, geo); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestVolume_crashAtEveryWrite_catches: the checker sees what it is there for.
func TestVolume_crashAtEveryWrite_catches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]crashCase{
		"record before resource": {prepare: two, bystander: true, readable: true, has: true, op: func(ctx context.Context, b *bench) error {
			x, err := b.Load(ctx)
			if err != nil {
				return err
			}
			x.put(1, idOf(2))
			return errors.Join(b.writeRecord(ctx, x, 1), b.initResource(ctx, 1, idOf(2)))
		}},
		"resource cleared before the record": {prepare: three, bystander: true, readable: true, op: func(ctx context.Context, b *bench) error {
			x, err := b.Load(ctx)
			if err != nil {
				return err
			}
			x.put(1, "")
			return errors.Join(b.clearResource(ctx, 1), b.writeRecord(ctx, x, 1))
		}},
		"the whole index for one record": {prepare: two, bystander: true, readable: true, has: true, op: func(ctx context.Context, b *bench) error {
			x, err := b.Load(ctx)
			if err != nil {
				return err
			}
			x.setHead(head{lockspace: testSpace, mtime: atGoldenTime(), updating: true})
			x.put(1, idOf(2))
			return errors.Join(b.initResource(ctx, 1, idOf(2)), b.writeAll(ctx, x))
		}},
		"rebuild: the index before the resources": {prepare: crashCases()["rebuild of what has no resource"].prepare, bystander: true, has: true, op: hastyRebuild},
		"an old sector put back": {prepare: two, bystander: true, readable: true, has: true, op: func(ctx context.Context, b *bench) error {
			x := newIndex(b.geo.AlignSize, head{lockspace: testSpace, mtime: atGoldenTime()})
			x.put(1, idOf(2))
			return errors.Join(b.initResource(ctx, 1, idOf(2)), b.writeRecord(ctx, x, 1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.crash(t, leases.Geometry512); err == nil {
				t.Error("not caught")
			} else {
				t.Log(err)
			}
		})
	}
}
