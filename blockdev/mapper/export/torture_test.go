package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// Torture: each client owns every n-th block of a volume. Blocks are no multiple of a sector, so that neighbours share
// sectors, and nobody but its owner writes a byte: what the owner wrote must be there at once and at the end, whatever
// the others do and however the volume grows meanwhile.
const (
	tortureSize    = 1 << 20
	tortureStep    = 64 << 10
	tortureBlock   = 3001
	tortureClients = 4
	tortureOps     = 300
)

// yielding lets others run in the middle of everything.
type yielding struct {
	blockdev.Device
	n atomic.Uint64
}

func (y *yielding) yield() {
	for range y.n.Add(1) % 4 {
		runtime.Gosched()
	}
}

func (y *yielding) ReadAt(ctx context.Context, p []byte, off int64) error {
	y.yield()
	defer y.yield()
	return y.Device.ReadAt(ctx, p, off)
}

func (y *yielding) WriteAt(ctx context.Context, p []byte, off int64) error {
	y.yield()
	defer y.yield()
	return y.Device.WriteAt(ctx, p, off)
}

// owner is one client with what it knows about its bytes.
type owner struct {
	id    int
	p     *peer
	rnd   *rand.Rand
	ss    int64
	want  []byte
	known []bool
}

// pick chooses a part of a block of the owner's own, further and further back.
func (o *owner) pick(step int) (off, n int64) {
	blocks := tortureSize / tortureBlock / tortureClients
	reach := min(blocks, 4+blocks*step*5/4/tortureOps)
	start := int64(o.rnd.IntN(reach)*tortureClients+o.id) * tortureBlock
	in := o.rnd.Int64N(tortureBlock)
	if o.rnd.IntN(3) == 0 {
		in = 0
	}
	n = 1 + o.rnd.Int64N(tortureBlock-in)
	if o.rnd.IntN(3) == 0 {
		n = tortureBlock - in
	}
	return start + in, n
}

// step does one operation and looks at what it did.
func (o *owner) step(i int) error {
	off, n := o.pick(i)
	flags := uint16(o.rnd.IntN(2)) * reqFUA
	var err error
	what := "write"
	switch o.rnd.IntN(6) {
	case 0:
		what = "zeroes"
		err = o.p.command(cmdWriteZeroes, flags|uint16(o.rnd.IntN(2))*reqNoHole, off, n)
		o.set(off, make([]byte, n))
	case 1:
		what = "trim"
		err = o.p.command(cmdTrim, flags, off, n)
		o.forget(off, n)
	case 2:
		what = "read"
	default:
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(o.rnd.Uint32())
		}
		err = o.p.write(off, data, flags)
		o.set(off, data)
	}
	if err != nil {
		return fmt.Errorf("client %d: %s of %d bytes at %d: %w", o.id, what, n, off, err)
	}
	return o.look(what, off, n)
}

func (o *owner) set(off int64, data []byte) {
	copy(o.want[off:], data)
	for i := range data {
		o.known[off+int64(i)] = true
	}
}

// forget is what a trim may do: whole sectors are undefined, parts of sectors stay.
func (o *owner) forget(off, n int64) {
	for i := (off + o.ss - 1) / o.ss * o.ss; i < (off+n)/o.ss*o.ss; i++ {
		o.known[i] = false
	}
}

// look compares n bytes at off with the model.
func (o *owner) look(after string, off, n int64) error {
	got, err := o.p.read(off, int(n))
	if err != nil {
		return err
	}
	for i, b := range got {
		if at := off + int64(i); o.known[at] && b != o.want[at] {
			return fmt.Errorf("client %d: after %s: byte %d is %#x, want %#x", o.id, after, at, b, o.want[at])
		}
	}
	return nil
}

// lookAtAll is look for every byte of the owner's.
func (o *owner) lookAtAll() error {
	var all error
	for at := int64(o.id) * tortureBlock; at+tortureBlock <= tortureSize; at += tortureClients * tortureBlock {
		all = errors.Join(all, o.look("all", at, tortureBlock))
	}
	return all
}

// torture runs one history and returns what was wrong.
func torture(t *testing.T, seed uint64, ss int, plant bugs) error {
	a, b := stale(tortureSize, ss), stale(tortureSize, ss)
	devs := []blockdev.Device{&yielding{Device: a}, &yielding{Device: b}}
	c := testConfig()
	c.MaxBytes, c.Discard, c.ThresholdBytes, c.Patience = tortureSize, true, tortureStep/8, 5*time.Minute
	segs := []blockdev.Segment{seg(devs[0], tortureSize-tortureStep, tortureStep)}
	s, err := New(c, segs)
	if err != nil {
		t.Fatal(err)
	}
	s.v.plant = plant
	ctx, cancel := context.WithCancel(testutil.Deadline(t))
	var grower, clients sync.WaitGroup
	grower.Go(func() { growOnDemand(ctx, s, devs, segs) })
	owners := make([]*owner, tortureClients)
	errs := make([]error, tortureClients)
	for i := range owners {
		owners[i] = &owner{id: i, p: connect(t, s, i%2 == 0), rnd: rand.New(rand.NewPCG(seed, uint64(i))), ss: int64(ss),
			want: make([]byte, tortureSize), known: make([]bool, tortureSize)}
		clients.Go(func() {
			for k := 0; k < tortureOps && errs[i] == nil; k++ {
				errs[i] = owners[i].step(k)
			}
		})
	}
	clients.Wait()
	for i, o := range owners {
		errs[i] = errors.Join(errs[i], o.lookAtAll())
	}
	st := s.Status()
	cancel()
	grower.Wait()
	wrong := errors.Join(errors.Join(errs...), s.Detach(testutil.Deadline(t)))
	if wrong == nil && (st.AllocatedBytes < tortureSize/2 || st.Denied != 0) { // a client that finds a mistake stops, and with it its writes
		t.Errorf("the volume did not grow as it should: %+v", st)
	}
	return wrong
}

// growOnDemand gives the volume what it wants, a step at a time, when the export says so.
func growOnDemand(ctx context.Context, s *Server, devs []blockdev.Device, segs []blockdev.Segment) {
	for seq := uint64(0); ; {
		st, err := s.Watch(ctx, seq)
		if err != nil {
			return
		}
		if seq = st.Seq; !st.Low && st.Waiting == 0 || st.AllocatedBytes >= st.MaxBytes {
			continue
		}
		i := len(segs)
		segs = append(segs[:i:i], seg(devs[i%2], int64(i/2)*tortureStep, tortureStep))
		if err := s.Grow(segs); err != nil {
			return
		}
	}
}

func TestServer_torture(t *testing.T) {
	t.Parallel()
	for _, ss := range []int{512, 4096} {
		for seed := range uint64(4) {
			if err := torture(t, seed, ss, bugs{}); err != nil {
				t.Errorf("sectors of %d, seed %d: %v", ss, seed, err)
			}
		}
	}
}

// TestServer_torturePlanted: the torture sees mistakes that were made on purpose.
func TestServer_torturePlanted(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]bugs{
		"no locks": {noLocks: true}, "zeroes whole sectors": {wholeZero: true}, "loses what waited": {loseTail: true},
	} {
		caught := false
		for seed := uint64(0); seed < 20 && !caught; seed++ {
			caught = torture(t, seed, 4096, plant) != nil
		}
		if !caught {
			t.Errorf("%s: not caught", name)
		}
	}
}

// TestServer_sharedSector: two clients write halves of one sector again and again, and nobody's bytes are lost.
func TestServer_sharedSector(t *testing.T) {
	t.Parallel()
	s := serveMem(t, testConfig(), &yielding{Device: blockdev.NewMem(1<<20, 4096)}, 64*kib)
	var wg sync.WaitGroup
	for half := range int64(2) {
		p := connect(t, s, true)
		wg.Go(func() {
			for i := range 200 {
				data := bytes.Repeat([]byte{byte(i)}, 2048)
				if err := p.write(half*2048, data, 0); err != nil {
					t.Error(err)
				}
				if got, err := p.read(half*2048, 2048); err != nil || !bytes.Equal(got, data) {
					t.Errorf("half %d, round %d: lost, %v", half, i, err)
				}
			}
		})
	}
	wg.Wait()
}
