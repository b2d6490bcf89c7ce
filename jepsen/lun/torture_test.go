package lun

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// area is the part of the LUN that the torture writes: small, so that most writes overlap others.
const area = 512 << 10

// payload is the bytes of a write, which a number brings back.
func payload(id uint64, n int) []byte {
	p := make([]byte, n)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], id*0x9e3779b97f4a7c15+uint64(i))
	}
	return p
}

// wrote is what a client knows of one write.
type wrote struct {
	id  uint64
	n   int
	err error
}

// knowledge is what all clients know, by checksum.
type knowledge struct {
	mu sync.Mutex // guards all below
	by map[uint64]wrote
	id uint64
}

func (k *knowledge) next(n int) (id uint64, p []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.id++
	return k.id, payload(k.id, n)
}

func (k *knowledge) add(p []byte, w wrote) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.by[checksum(p)] = w
}

// clients writes, zeroes, trims, flushes and reads until ctx ends, several at a time on one connection.
func (k *knowledge) client(ctx context.Context, d blockdev.Device, dice *rand.Rand) {
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 50*time.Millisecond)
		err := k.step(call, d, dice)
		cancel()
		if err != nil { // the path may be gone for a while
			pause(ctx, time.Millisecond)
		}
	}
}

func (k *knowledge) step(ctx context.Context, d blockdev.Device, dice *rand.Rand) error {
	n := Sector << dice.IntN(6)
	if dice.IntN(8) == 0 {
		n = Sector << (6 + dice.IntN(3))
	}
	off := dice.Int64N(area/Sector) * Sector
	off = min(off, int64(area-n))
	switch dice.IntN(16) {
	case 0:
		return d.WriteZeroes(ctx, off, int64(n))
	case 1:
		return d.Discard(ctx, off, int64(n))
	case 2:
		return d.Flush(ctx)
	case 3:
		return d.ReadAt(ctx, make([]byte, n), off)
	}
	id, p := k.next(n)
	err := d.WriteAt(ctx, p, off)
	k.add(p, wrote{id: id, n: n, err: err})
	return err
}

// pause gives others time; nothing depends on how much.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// goOn waits until the record has grown by n entries, or for a while: a fault may keep it from growing.
func (r *rig) goOn(ctx context.Context, n int) {
	for end, until := r.log.Len()+n, time.Now().Add(50*time.Millisecond); r.log.Len() < end && time.Now().Before(until); {
		pause(ctx, time.Millisecond)
	}
}

// tortures are all faults; each leaves its path as it may be, and others may be on it already.
var tortures = []func(ctx context.Context, r *rig, p *Path, dice *rand.Rand){
	func(_ context.Context, _ *rig, p *Path, _ *rand.Rand) { p.Cut() },
	func(_ context.Context, _ *rig, p *Path, _ *rand.Rand) { p.Hang() },
	func(ctx context.Context, r *rig, p *Path, dice *rand.Rand) {
		p.Hang()
		r.goOn(ctx, 10)
		p.Release(dice.IntN(3) > 0)
	},
	func(ctx context.Context, r *rig, p *Path, _ *rand.Rand) {
		p.Slow(0, 5*time.Millisecond, 10*time.Millisecond)
		r.goOn(ctx, 10)
	},
	func(ctx context.Context, r *rig, p *Path, _ *rand.Rand) {
		p.FailReads(3)
		p.FailWrites(3)
		r.goOn(ctx, 20)
	},
	func(ctx context.Context, r *rig, p *Path, _ *rand.Rand) {
		torn := p.TearNext()
		select {
		case <-torn:
		case <-time.After(100 * time.Millisecond): // no path may be there at all
		}
	},
	func(ctx context.Context, r *rig, p *Path, _ *rand.Rand) {
		p.Volatile(true)
		r.goOn(ctx, 20)
		p.Drop()
	},
	func(_ context.Context, _ *rig, p *Path, _ *rand.Rand) { p.Volatile(true) },
	func(_ context.Context, r *rig, _ *Path, _ *rand.Rand) { r.Gone(true) },
}

// faults has each fault so many times, in a random order and often several at once.
func faults(ctx context.Context, r *rig, times int, dice *rand.Rand) {
	hosts := []string{"a", "b"}
	for _, i := range dice.Perm(times * len(tortures)) {
		p := r.Path(hosts[dice.IntN(2)])
		if dice.IntN(2) == 0 {
			r.Heal()
		}
		tortures[i%len(tortures)](ctx, r, p, dice)
		r.goOn(ctx, dice.IntN(10))
		if dice.IntN(2) == 0 {
			r.Gone(false)
			p.Join()
			p.Release(true)
		}
	}
	r.Heal()
	r.goOn(ctx, 50)
}

// torture runs clients under faults and returns what was there first, what the clients know, and the rig when all is quiet.
func torture(t *testing.T, seed uint64, times int) (first []byte, k *knowledge, r *rig) {
	t.Helper()
	r = newRig(t, 1<<20)
	first = payload(1<<40, 1<<20)
	if err := os.WriteFile(r.file, first, 0o600); err != nil {
		t.Fatal(err)
	}
	k = &knowledge{by: map[uint64]wrote{}}
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 6 { // three programs on each host, of which each does two things at a time
		d := r.open([]string{"a", "b"}[i%2])
		for j := range 2 {
			clients.Go(func() { k.client(ctx, d, rand.New(rand.NewPCG(seed, uint64(10+2*i+j)))) })
		}
	}
	faults(ctx, r, times, rand.New(rand.NewPCG(seed, 1)))
	stop()
	clients.Wait()
	return first, k, r
}

// replay puts a record onto the first contents.
func (k *knowledge) replay(first []byte, all []history.Entry) ([]byte, error) {
	now := bytes.Clone(first)
	for i, e := range all {
		if e.Seq != i+1 {
			return nil, fmt.Errorf("entry %d has the number %d", i+1, e.Seq)
		}
		if e.Landed == 0 || e.Kind == history.Flush {
			continue
		}
		n := e.Len
		if e.Torn != 0 {
			n = e.Torn
		}
		data := make([]byte, n)
		switch {
		case e.Data != nil:
			data = e.Data
		case e.Kind == history.Write:
			w, ok := k.by[e.Sum]
			if !ok {
				return nil, fmt.Errorf("entry %d: nobody wrote bytes with the checksum %x", e.Seq, e.Sum)
			}
			data = payload(w.id, w.n)
		}
		copy(now[e.Off:], data[:n])
	}
	return now, nil
}

// told compares the record with what the clients were told.
func (k *knowledge) told(all []history.Entry) error {
	entries := map[uint64]history.Entry{}
	for _, e := range all {
		if e.Kind == history.Write {
			entries[e.Sum] = e
		}
	}
	for sum, w := range k.by {
		e, has := entries[sum]
		switch {
		case w.err == nil && (!has || e.Landed == 0 || e.Told == 0 || e.Failed || e.Torn != 0):
			return fmt.Errorf("write %d was acknowledged; its entry: %s", w.id, brief(e))
		case errors.Is(w.err, syscall.EIO) && (!has || !e.Failed || e.Told == 0):
			return fmt.Errorf("write %d failed with EIO; its entry: %s", w.id, brief(e))
		case w.err != nil && !errors.Is(w.err, syscall.EIO) && !errors.Is(w.err, blockdev.ErrOutcomeUnknown) && has:
			return fmt.Errorf("write %d was surely not sent (%w); its entry: %s", w.id, w.err, brief(e))
		}
	}
	return nil
}

// count tells what a torture did, so that one which did nothing is seen.
func count(all []history.Entry) map[string]int {
	n := map[string]int{}
	for _, e := range all {
		n[string(e.Kind)]++
		for what, is := range map[string]bool{
			"told": e.Told != 0 && !e.Failed, "failed": e.Failed, "torn": e.Torn != 0, "never": e.Landed == 0,
			"late": e.Landed-e.Came > 2*time.Millisecond, "orphan": e.Landed != 0 && e.Told == 0 && e.Kind != history.Lost && e.Torn == 0,
			"failed landed": e.Failed && e.Landed != 0,
		} {
			if is {
				n[what]++
			}
		}
	}
	return n
}

// TestRecord_torture: the record put onto the first contents gives the file, and says what the clients were told.
func TestRecord_torture(t *testing.T) {
	t.Parallel()
	first, k, r := torture(t, 7, 12)
	all := r.end()
	did := count(all)
	t.Logf("%d entries, %d writes known to clients: %v", len(all), len(k.by), did)
	for _, what := range []string{"write", "zero", "trim", "flush", "lost", "told", "failed", "torn", "never", "late", "failed landed"} {
		if did[what] == 0 {
			t.Errorf("the torture had nothing of the kind %q", what)
		}
	}
	got, err := k.replay(first, all)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.contents(); !bytes.Equal(got, want) {
		t.Errorf("the record does not give the file: %s", differ(got, want))
	}
	if err := k.told(all); err != nil {
		t.Error(err)
	}
	plant(t, first, k, all, r.contents())
}

// differ says where.
func differ(got, want []byte) string {
	n, where := 0, -1
	for at := 0; at < len(want); at += Sector {
		if !bytes.Equal(got[at:at+Sector], want[at:at+Sector]) {
			if n++; where < 0 {
				where = at
			}
		}
	}
	return fmt.Sprintf("%d sectors, the first at %d", n, where)
}

// plant makes each mistake that a recorder could make, and sees that the comparison notices.
func plant(t *testing.T, first []byte, k *knowledge, all []history.Entry, want []byte) {
	t.Helper()
	last := -1 // of the writes that landed whole
	for i, e := range all {
		if e.Kind == history.Write && e.Landed != 0 && e.Torn == 0 {
			last = i
		}
	}
	for name, mistake := range map[string]func(es []history.Entry) []history.Entry{
		"left out": func(es []history.Entry) []history.Entry {
			es[last].Landed = 0
			return es
		},
		"left out with its number": func(es []history.Entry) []history.Entry { return append(es[:last], es[last+1:]...) },
		"in another place": func(es []history.Entry) []history.Entry {
			es[last].Off = (es[last].Off + Sector) % area
			return es
		},
		"order turned round": func(es []history.Entry) []history.Entry {
			var back []history.Entry
			for i := range es {
				e := es[len(es)-1-i]
				e.Seq = i + 1
				back = append(back, e)
			}
			return back
		},
	} {
		got, err := k.replay(first, mistake(append([]history.Entry(nil), all...)))
		if err == nil && bytes.Equal(got, want) {
			t.Errorf("planted: %s, and nobody noticed", name)
		}
	}
	for name, mistake := range map[string]func(e *history.Entry) bool{
		"acknowledged, but not recorded as landed": func(e *history.Entry) bool {
			e.Landed = 0
			return true
		},
		"acknowledged, but not recorded as told": func(e *history.Entry) bool {
			e.Told = 0
			return true
		},
	} {
		es := append([]history.Entry(nil), all...)
		for i := range es {
			if w, ok := k.by[es[i].Sum]; ok && w.err == nil && es[i].Kind == history.Write && mistake(&es[i]) {
				break
			}
		}
		if k.told(es) == nil {
			t.Errorf("planted: %s, and nobody noticed", name)
		}
	}
}
