package lvm2

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

// TestOpen_refuses spoils a group in ways that must not be written to.
func TestOpen_refuses(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name       string
		old, repl  string
		want       error
		mentioning string
	}{
		{"lock_type", "extent_size", "lock_type = \"sanlock\"\nextent_size", ErrForeign, "lock_type"},
		{"system_id", "extent_size", "system_id = \"other\"\nextent_size", ErrForeign, "system_id"},
		{"persistent reservations", "extent_size", "pr = [ \"require\" ]\nextent_size", ErrForeign, "pr"},
		{"exported", "[\"RESIZEABLE\"", "[\"EXPORTED\", \"RESIZEABLE\"", ErrForeign, "EXPORTED"},
		{"clustered", "[\"RESIZEABLE\"", "[\"CLUSTERED\", \"RESIZEABLE\"", ErrForeign, "CLUSTERED"},
		{"shared", "[\"RESIZEABLE\"", "[\"SHARED\", \"RESIZEABLE\"", ErrForeign, "SHARED"},
		{"unknown status", "[\"RESIZEABLE\"", "[\"SHINY\", \"RESIZEABLE\"", ErrForeign, "SHINY"},
		{"read-only", ", \"WRITE\"]", "]", ErrForeign, "WRITE"},
		{"odd volume", "\"WRITE\", \"VISIBLE\"", "\"SHINY\", \"VISIBLE\"", ErrForeign, "SHINY"},
		{"exported pv", "[\"ALLOCATABLE\"]", "[\"ALLOCATABLE\", \"EXPORTED\"]", ErrForeign, "EXPORTED"},
		{"missing flag", "[\"ALLOCATABLE\"]\nflags = []", "[\"ALLOCATABLE\"]\nflags = [\"MISSING\"]", ErrMissingPV, "last seen"},
		{"unreadable", "pe_count = ", "pe_kount = ", ErrCorrupt, "pe_count"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, dev := testContext(t), newMem()
			g := smallGroup(t, ctx, dev)
			tx := g.Begin()
			if _, err := tx.CreateLV("a", 1, LVOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := g.Commit(ctx, tx, nil, "a"); err != nil {
				t.Fatal(err)
			}
			text := g.VG().appendText(nil, header{description: "d", host: "h"})
			overwrite(t, g, dev, swap(c.old, c.repl)(text))
			_, err := Open(ctx, []blockdev.Device{dev})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.mentioning) {
				t.Errorf("open: %v, want %v mentioning %s", err, c.want, c.mentioning)
			}
			if _, err := g.Refresh(ctx); !errors.Is(err, c.want) {
				t.Errorf("refresh: %v, want %v", err, c.want)
			}
		})
	}
}

// TestOpen_damage destroys bytes and looks at what the error or the warning says.
func TestOpen_damage(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	fresh := func() (*Group, *blockdev.Mem) {
		dev := newMem()
		return smallGroup(t, ctx, dev), dev
	}
	open := func(m ...*blockdev.Mem) (*Group, error) { return Open(ctx, asDevices(m)) }
	flip := func(m *blockdev.Mem, at int64) { m.SetBytes(at, []byte{m.Bytes(at, 1)[0] ^ 0x55}) }

	g, dev := fresh()
	second := g.cur.Load().mdasInUse()[1].area.off
	flip(dev, 600)
	if _, err := open(dev); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "label is corrupt at bytes 528..") {
		t.Errorf("label: %v", err)
	}
	for _, at := range []int64{firstMDA + 50, firstMDA + 512 + 100} {
		_, dev := fresh()
		flip(dev, at)
		g, err := open(dev)
		if err != nil || len(g.Warnings()) != 1 || !strings.Contains(g.Warnings()[0], "corrupt at bytes") {
			t.Fatalf("byte %d of one area: %v", at, err)
		}
		both := dev.Clone()
		goOnWithOne(t, ctx, g)
		flip(both, at+second-firstMDA)
		if _, err := open(both); err == nil {
			t.Errorf("byte %d of both areas: no error", at)
		}
	}
	_, dev = fresh()
	flip(dev, firstMDA+50)
	flip(dev, second+50)
	if _, err := open(dev); !errors.Is(err, ErrNoVG) || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "metadata header is corrupt at bytes 4096..4607") {
		t.Errorf("both headers: %v", err)
	}
	dev.SetBytes(0, make([]byte, 4096))
	if _, err := open(dev); !errors.Is(err, ErrNotPV) {
		t.Errorf("no label: %v", err)
	}
}

// goOnWithOne commits to a group of which one area is bad.
func goOnWithOne(t *testing.T, ctx context.Context, g *Group) {
	t.Helper()
	tx := g.Begin()
	if err := tx.AddVGTags("one"); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "one area"); err != nil {
		t.Fatal(err)
	}
	again, err := Open(ctx, g.devs)
	if err != nil || !again.VG().HasTag("one") {
		t.Fatalf("after a commit to one area: %v", err)
	}
}

func TestOpen_splitBrain(t *testing.T) {
	t.Parallel()
	ctx, dev := testContext(t), newMem()
	g := smallGroup(t, ctx, dev)
	text := g.VG().appendText(nil, header{description: "somebody else", host: "h"})
	m := g.cur.Load().mdasInUse()[1]
	h := mdaHead{area: m.area, slots: [2]slot{{offset: mdaHeader, size: int64(len(text)), sum: checksum(text)}, {}}}
	dev.SetBytes(m.area.off+mdaHeader, text)
	dev.SetBytes(m.area.off, h.encode())
	if _, err := Open(ctx, g.devs); !errors.Is(err, ErrSplitBrain) {
		t.Errorf("two texts with one sequence number: %v", err)
	}
	other := newMem().Rename("other")
	two := smallGroup(t, ctx, other)
	if _, err := Open(ctx, []blockdev.Device{two.devs[0], other.Clone().Rename("copy")}); !errors.Is(err, ErrSplitBrain) {
		t.Errorf("two devices with one id: %v", err)
	}
	third := newMem().Rename("third")
	smallGroup(t, ctx, third)
	if _, err := Open(ctx, []blockdev.Device{other, third}); !errors.Is(err, ErrForeign) {
		t.Errorf("devices of two groups: %v", err)
	}
}

func TestOpen_missingDevice(t *testing.T) {
	t.Parallel()
	ctx, a, b := testContext(t), newMem().Rename("a"), newMem().Rename("b")
	smallGroup(t, ctx, a, b)
	if _, err := Open(ctx, []blockdev.Device{a}); !errors.Is(err, ErrMissingPV) {
		t.Errorf("without b: %v", err)
	}
	if _, err := Open(ctx, []blockdev.Device{b}); !errors.Is(err, ErrNoVG) {
		t.Errorf("without a: %v", err)
	}
	info, err := Inspect(ctx, b)
	if err != nil || !info.Used || info.VGName != "" || info.MDAsInUse != 0 {
		t.Errorf("inspect b: %+v %v", info, err)
	}
	info, err = Inspect(ctx, a)
	if err != nil || info.VGName != "small" || info.MDAsInUse != 2 || info.Seqno != 1 {
		t.Errorf("inspect a: %+v %v", info, err)
	}
	if _, err := Inspect(ctx, newMem()); !errors.Is(err, ErrNotPV) {
		t.Errorf("inspect an empty device: %v", err)
	}
}

func TestCommit_refusesWhenMoved(t *testing.T) {
	t.Parallel()
	ctx, dev := testContext(t), newMem()
	g := smallGroup(t, ctx, dev)
	other, err := Open(ctx, g.devs)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(g *Group, tx *Tx, tag string) error {
		if err := tx.AddVGTags(tag); err != nil {
			return err
		}
		return g.Commit(ctx, tx, nil, tag)
	}
	stale, late := g.Begin(), g.Begin()
	if err := commit(other, other.Begin(), "other"); err != nil {
		t.Fatal(err)
	}
	if err := commit(g, stale, "mine"); !errors.Is(err, ErrChanged) {
		t.Fatalf("commit over somebody else's: %v", err)
	}
	if vg, err := g.Refresh(ctx); err != nil || !vg.HasTag("other") || vg.HasTag("mine") {
		t.Fatalf("refresh: %v", err)
	}
	if err := commit(g, late, "late"); !errors.Is(err, ErrChanged) {
		t.Fatalf("commit of a transaction from before the refresh: %v", err)
	}
	tx := g.Begin()
	if err := commit(g, tx, "mine"); err != nil {
		t.Fatal(err)
	}
	if err := tx.AddVGTags("again"); !errors.Is(err, ErrDone) {
		t.Errorf("finished transaction: %v", err)
	}
}

// leaseGuard is a guard that ends after a number of checks.
type leaseGuard struct{ left atomic.Int64 }

func (l *leaseGuard) Check(need time.Duration) error {
	if l.left.Add(-1) < 0 || need <= 0 {
		return blockdev.ErrLeaseLost
	}
	return nil
}

func (l *leaseGuard) Epoch() uint64 { return 1 }

// TestCommit_leaseLost takes the lease away at every check of a commit. The error must tell the truth.
func TestCommit_leaseLost(t *testing.T) {
	t.Parallel()
	for left := range 30 {
		ctx, dev := testContext(t), newMem()
		g := smallGroup(t, ctx, dev)
		oneArea(t, g, dev)
		if _, err := g.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		tx := g.Begin()
		if err := tx.AddVGTags("new"); err != nil {
			t.Fatal(err)
		}
		guard := &leaseGuard{}
		guard.left.Store(int64(left))
		err := g.Commit(ctx, tx, guard, "guarded")
		again, openErr := Open(ctx, g.devs)
		if openErr != nil {
			t.Fatal(openErr)
		}
		switch done := again.VG().HasTag("new"); {
		case err == nil && !done:
			t.Fatalf("%d checks: success, but not on the disk", left)
		case err != nil && done && !errors.Is(err, blockdev.ErrOutcomeUnknown):
			t.Fatalf("%d checks: on the disk, but the error says it surely is not: %v", left, err)
		case err != nil && !errors.Is(err, blockdev.ErrLeaseLost):
			t.Fatalf("%d checks: %v", left, err)
		case err == nil && left < 5:
			t.Fatalf("%d checks were enough for a commit", left)
		}
	}
}

// TestCommit_unknownOutcome hangs each write of a commit. While it may still land, the group takes no commit.
func TestCommit_unknownOutcome(t *testing.T) {
	t.Parallel()
	for after := range 8 {
		ctx, mem := testContext(t), newMem()
		slow := faulty.New(mem)
		g := smallGroup(t, ctx, slow)
		g.opt.IOTimeout = 20 * time.Millisecond
		rule := slow.Inject(faulty.Fault{Ops: faulty.Mutations, After: after, Count: 1, Hang: true})
		tx := g.Begin()
		if err := tx.AddVGTags("new"); err != nil {
			t.Fatal(err)
		}
		err := g.Commit(ctx, tx, nil, "hangs")
		if rule.Hits() != 1 || !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Fatalf("write %d hangs: hits %d, %v", after, rule.Hits(), err)
		}
		if err := g.Commit(ctx, g.Begin(), nil, "next"); !errors.Is(err, ErrDoubt) {
			t.Fatalf("write %d hangs, next commit: %v", after, err)
		}
		if _, err := g.Refresh(ctx); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Fatalf("write %d hangs, refresh: %v", after, err)
		}
		slow.Release()
		if _, err := g.Refresh(ctx); err != nil {
			t.Fatalf("write %d came back: %v", after, err)
		}
		goOnWithOne(t, ctx, g)
		if again, err := Open(ctx, g.devs); err != nil || !bytes.Equal(groupText(again.VG()), groupText(g.VG())) {
			t.Fatalf("write %d: %v", after, err)
		}
	}
}
