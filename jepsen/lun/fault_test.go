package lun

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// TestPath_Cut: no connection survives, none is taken, and the client comes back after Join. The other host notices nothing.
func TestPath_Cut(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	ctx, a, b := testutil.Deadline(t), r.open("a"), r.open("b")
	p := r.Path("a")
	p.Cut()
	for range 3 {
		if err := a.WriteAt(ctx, fill(1, 512), 0); !errors.Is(err, blockdev.ErrGone) {
			t.Errorf("write on a cut path: %v", err)
		}
		if err := b.WriteAt(ctx, fill(2, 512), 512); err != nil {
			t.Errorf("the other host: %v", err)
		}
	}
	if _, err := blockdev.Open(ctx, r.uri("a"), blockdev.Options{}); !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("open on a cut path: %v", err)
	}
	p.Join()
	if err := a.WriteAt(ctx, fill(1, 512), 0); err != nil {
		t.Errorf("after Join: %v", err)
	}
	if got := r.contents(); got[0] != 1 || got[512] != 2 {
		t.Error("the file has other bytes")
	}
}

// TestLUN_Gone: gone for all, also for a path that was joined meanwhile, and back.
func TestLUN_Gone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	ctx, both := testutil.Deadline(t), []blockdev.Device{r.open("a"), r.open("b")}
	r.Gone(true)
	r.Path("a").Heal()
	for _, d := range both {
		if err := d.WriteAt(ctx, fill(1, 512), 0); !errors.Is(err, blockdev.ErrGone) {
			t.Errorf("write on a LUN that is gone: %v", err)
		}
	}
	r.Path("b").Cut()
	r.Heal()
	for _, d := range both {
		if err := d.WriteAt(ctx, fill(1, 512), 0); err != nil {
			t.Errorf("a LUN that is back: %v", err)
		}
	}
}

// TestPath_Hang: nothing lands and nobody is answered; a path that hangs delays no other, not even at the same place; and
// what hung lands although the client's call is long over.
func TestPath_Hang(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	ctx, a, b, p := testutil.Deadline(t), r.open("a"), r.open("b"), r.Path("a")
	p.Hang()
	if err := a.WriteAt(soon(t), fill(1, 1024), 0); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Fatalf("write on a path that hangs: %v", err)
	}
	if err := a.ReadAt(soon(t), make([]byte, 512), 0); !errors.Is(err, blockdev.ErrTimeout) {
		t.Errorf("read: %v", err)
	}
	if _, err := blockdev.Open(soon(t), r.uri("a"), blockdev.Options{}); !errors.Is(err, blockdev.ErrTimeout) {
		t.Errorf("open: %v", err)
	}
	if err := b.WriteAt(ctx, fill(2, 1024), 512); err != nil {
		t.Errorf("the other host: %v", err)
	}
	if got := r.contents(); got[0] != 0 || got[512] != 2 || p.Held() != 2 {
		t.Errorf("%d, %d in the file, %d requests hang", got[0], got[512], p.Held())
	}
	if n := p.Release(true); n != 2 {
		t.Errorf("%d requests released", n)
	}
	if got := r.contents(); got[0] != 1 || got[512] != 1 || got[1024] != 2 {
		t.Error("what hung did not land")
	}
	if err := a.ReadAt(ctx, make([]byte, 512), 0); err != nil {
		t.Errorf("after Release: %v", err)
	}
	testutil.Retry(t, 10*time.Second, func() error {
		if a.Pending() != 0 {
			return errors.New("the late reply did not come")
		}
		return nil
	})
	all := r.end()
	if len(all) != 2 || all[0].Host != "b" || all[1].Host != "a" || all[1].Came > all[0].Landed || all[1].Landed < all[0].Landed || all[1].Told == 0 {
		t.Errorf("%s", brief(all...))
	}
}

// TestPath_Stick: some requests hang, the others pass them, and what hung lands later.
func TestPath_Stick(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	ctx, a, p := testutil.Deadline(t), r.open("a"), r.Path("a")
	p.Stick(1)
	if err := a.WriteAt(soon(t), fill(1, 512), 0); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Fatalf("a write that sticks: %v", err)
	}
	p.Stick(0)
	if err := a.WriteAt(ctx, fill(2, 512), 512); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if got := r.contents(); got[0] != 0 || got[512] != 2 || p.Held() != 1 {
		t.Errorf("%d, %d in the file, %d requests hang", got[0], got[512], p.Held())
	}
	if n := p.Release(true); n != 1 || r.contents()[0] != 1 {
		t.Errorf("%d released, %d in the file", n, r.contents()[0])
	}
	if err := a.WriteAt(ctx, fill(3, 512), 0); err != nil || r.contents()[0] != 3 {
		t.Errorf("after that: %v", err)
	}
	if all := r.end(); len(all) != 3 {
		t.Errorf("%s", brief(all...))
	}
}

// TestPath_Hang_orphan: a request lands after its connection is gone, and nobody is told.
func TestPath_Hang_orphan(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	c, p := r.enter(t, "a"), r.Path("a")
	p.Hang()
	c.request(cmdWrite, 0, 1, 0, 512, string(fill(3, 512)))
	r.holds("a", 1)
	p.Cut()
	if !c.over() {
		t.Error("the connection survives the cut")
	}
	if r.log.Len() != 0 {
		t.Error("what hangs was ended by a cut")
	}
	p.Release(true)
	if r.contents()[0] != 3 {
		t.Error("it did not land")
	}
	if all := r.end(); len(all) != 1 || all[0].Landed == 0 || all[0].Told != 0 {
		t.Errorf("%s", brief(all...))
	}
}

// TestPath_Release_drop: nothing that hung lands, its connection is gone, and the record has it.
func TestPath_Release_drop(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	c, p := r.enter(t, "a"), r.Path("a")
	p.Hang()
	c.request(cmdWrite, 0, 1, 0, 512, string(fill(3, 512)))
	c.request(cmdFlush, 0, 2, 0, 0, "")
	r.holds("a", 2)
	if p.Release(false); !c.over() {
		t.Error("the connection is still there")
	}
	if r.contents()[0] != 0 {
		t.Error("it landed")
	}
	for _, e := range r.end() {
		if e.Came == 0 || e.Landed != 0 || e.Told != 0 {
			t.Errorf("%s", brief(e))
		}
	}
	if n := r.log.Len(); n != 2 {
		t.Errorf("%d entries", n)
	}
}

// TestLUN_Close_hanging: the end of the run ends what hangs and what is slow; it is recorded, and never lands.
func TestLUN_Close_hanging(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	a, b := r.enter(t, "a"), r.enter(t, "b")
	r.Path("a").Hang()
	r.Path("b").Slow(time.Hour, time.Hour, 0)
	for _, c := range []talk{a, b} {
		c.request(cmdWrite, 0, 1, 0, 512, string(fill(1, 512)))
	}
	r.holds("a", 1)
	testutil.Retry(t, 10*time.Second, func() error {
		if r.Path("b").Delayed() != 1 {
			return errors.New("the slow request is not under way")
		}
		return nil
	})
	if all := r.end(); len(all) != 2 || all[0].Landed+all[1].Landed != 0 || r.contents()[0] != 0 {
		t.Errorf("%s", brief(all...))
	}
}

// TestPath_Slow: the delay grows from one value to another; other paths know nothing of it, and Fast ends it.
func TestPath_Slow(t *testing.T) {
	t.Parallel()
	ramp := ramp{from: 10, to: 110, over: 1000, began: 5000}
	for at, want := range map[time.Duration]time.Duration{5000: 10, 5500: 60, 6000: 110, 9000: 110} {
		if got := ramp.at(at); got != want {
			t.Errorf("delay at %d: %d, want %d", at, got, want)
		}
	}
	r := newRig(t, 1<<20)
	ctx, a, b := testutil.Deadline(t), r.open("a"), r.open("b")
	r.Path("a").Slow(0, 40*time.Millisecond, 0)
	begun := time.Now()
	if err := a.WriteAt(ctx, fill(1, 512), 0); err != nil || time.Since(begun) < 40*time.Millisecond {
		t.Errorf("a slow write took %v: %v", time.Since(begun), err)
	}
	r.Path("a").Slow(time.Hour, time.Hour, 0)
	if err := a.WriteAt(soon(t), fill(2, 512), 0); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Errorf("a very slow write: %v", err)
	}
	if err := b.WriteAt(ctx, fill(3, 512), 0); err != nil {
		t.Errorf("the other host: %v", err)
	}
	r.Path("a").Fast()
	if err := a.WriteAt(ctx, fill(4, 512), 512); err != nil {
		t.Errorf("a fast write: %v", err)
	}
	all := r.end()
	if len(all) != 4 || all[0].Landed-all[0].Came < 40*time.Millisecond || all[3].Landed != 0 {
		t.Errorf("%s", brief(all...))
	}
}

// TestPath_Cut_slow: what waited for its time when the path was cut never lands, also when the path is back by then.
func TestPath_Cut_slow(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	c, p := r.enter(t, "a"), r.Path("a")
	p.Slow(300*time.Millisecond, 300*time.Millisecond, 0)
	c.request(cmdWrite, 0, 1, 0, 512, string(fill(1, 512)))
	testutil.Retry(t, 10*time.Second, func() error {
		if p.Delayed() != 1 {
			return errors.New("the slow request is not under way")
		}
		return nil
	})
	p.Cut()
	p.Join()
	testutil.Retry(t, 10*time.Second, func() error {
		if p.Delayed() != 0 {
			return errors.New("its time has not come")
		}
		return nil
	})
	if all := r.end(); len(all) != 1 || all[0].Landed != 0 || r.contents()[0] != 0 {
		t.Errorf("%s", brief(all...))
	}
}

// TestPath_Fail: about one in n, all with n = 1, none with 0; failed writes land or do not.
func TestPath_Fail(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	ctx, a, p := testutil.Deadline(t), r.open("a"), r.Path("a")
	read := func() error { return a.ReadAt(ctx, make([]byte, 512), 0) }
	write := func() error { return a.WriteAt(ctx, fill(1, 512), 0) }
	failures := func(f func() error) (n int) {
		for range 100 {
			if err := f(); errors.Is(err, syscall.EIO) {
				n++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	for _, c := range []struct{ n, least, most int }{{0, 0, 0}, {4, 8, 50}, {1, 100, 100}} {
		p.FailReads(c.n)
		if n := failures(read); n < c.least || n > c.most {
			t.Errorf("one read in %d: %d of 100 fail", c.n, n)
		}
		if n := failures(write); n != 0 {
			t.Errorf("%d writes fail with reads", n)
		}
		p.FailReads(0)
		p.FailWrites(c.n)
		if n := failures(write); n < c.least || n > c.most {
			t.Errorf("one write in %d: %d of 100 fail", c.n, n)
		}
		if n := failures(read); n != 0 {
			t.Errorf("%d reads fail with writes", n)
		}
		p.FailWrites(0)
	}
	landed, lost := 0, 0
	for _, e := range r.end() {
		switch {
		case e.Failed && e.Landed != 0:
			landed++
		case e.Failed:
			lost++
		case e.Landed == 0:
			t.Errorf("%s", brief(e))
		}
	}
	if landed < 30 || lost < 30 {
		t.Errorf("%d failed writes landed, %d did not", landed, lost)
	}
}

// TestPath_TearNext: one sector cannot be torn; the next longer write lands up to a sector, and the path is cut with it.
func TestPath_TearNext(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	ctx, a, p := testutil.Deadline(t), r.open("a"), r.Path("a")
	torn := p.TearNext()
	if err := a.WriteAt(ctx, fill(1, 512), 64<<10); err != nil {
		t.Errorf("one sector: %v", err)
	}
	if err := a.WriteAt(ctx, fill(2, 4096), 0); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Errorf("torn: %v", err)
	}
	<-torn
	if err := a.ReadAt(ctx, make([]byte, 512), 0); !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("after the power loss: %v", err)
	}
	p.Heal()
	if err := a.WriteAt(ctx, fill(3, 4096), 8192); err != nil {
		t.Errorf("after Heal: %v", err)
	}
	got := r.contents()[:4096]
	all := r.end()
	e := all[1]
	if len(all) != 3 || e.Torn < Sector || e.Torn > 7*Sector || e.Torn%Sector != 0 || e.Told != 0 || e.Landed == 0 {
		t.Fatalf("%s", brief(all...))
	}
	if !bytes.Equal(got[:e.Torn], fill(2, int(e.Torn))) || !bytes.Equal(got[e.Torn:], make([]byte, 4096-e.Torn)) {
		t.Error("the file is torn elsewhere")
	}
}

// TestPath_Drop: a write is there for everybody when it is answered, and only what a flush, from whomever, or FUA covers
// survives the loss of power; nobody else's writes are touched.
func TestPath_Drop(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	ctx, a, b, p := testutil.Deadline(t), r.open("a"), r.open("b"), r.Path("a")
	p.Volatile(true)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.WriteAt(ctx, fill(1, 4096), 0))
	must(b.Flush(ctx))
	must(a.WriteAt(ctx, fill(2, 64<<10), 0))     // lost, in part at least
	must(a.WriteAt(ctx, fill(3, 4096), 128<<10)) // written over by the other host
	must(b.WriteAt(ctx, fill(4, 4096), 128<<10))
	fua := r.enter(t, "a")
	fua.request(cmdWrite, flagFUA, 1, 256<<10, 512, string(fill(5, 512)))
	if _, errno := fua.reply(); errno != 0 {
		t.Fatal(errno)
	}
	got := make([]byte, 4096)
	if must(b.ReadAt(ctx, got, 0)); !bytes.Equal(got, fill(2, 4096)) {
		t.Error("an answered write is not seen by the other host")
	}
	lost := p.Drop()
	after := r.contents()
	was := func(at int) byte { return map[bool]byte{true: 1}[at < 4096] }
	found := 0
	for at := 0; at < 64<<10; at += Sector {
		switch {
		case bytes.Equal(after[at:at+Sector], fill(was(at), Sector)):
			found++
		case !bytes.Equal(after[at:at+Sector], fill(2, Sector)):
			t.Fatalf("sector at %d is neither old nor new", at)
		}
	}
	if lost != found || lost < 32 {
		t.Errorf("%d sectors lost, Drop says %d", found, lost)
	}
	if after[128<<10] != 4 || after[256<<10] != 5 {
		t.Error("durable writes are lost")
	}
	if err := a.ReadAt(ctx, got, 0); !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("after the power loss: %v", err)
	}
	p.Heal()
	must(a.WriteAt(ctx, fill(6, 512), 0))
	if p.Drop() != 0 || r.contents()[0] != 6 {
		t.Error("lost without a volatile cache")
	}
	n := 0
	for _, e := range r.end() {
		if e.Kind == history.Lost {
			n++
		}
	}
	if n != lost {
		t.Errorf("%d sectors lost, %d recorded", lost, n)
	}
}

// TestPath_Volatile_order: writes under way at once land in another order than they came.
func TestPath_Volatile_order(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	c := r.enter(t, "a")
	r.Path("a").Volatile(true)
	const n = 64
	for i := range n {
		c.request(cmdWrite, 0, uint64(i), i*Sector, Sector, string(fill(byte(i), Sector)))
	}
	for range n {
		if _, errno := c.reply(); errno != 0 {
			t.Fatal(errno)
		}
	}
	swapped, last := 0, int64(-1)
	for _, e := range r.end() {
		if e.Off < last {
			swapped++
		}
		last = e.Off
	}
	if swapped == 0 {
		t.Error("all landed as they came")
	}
}
