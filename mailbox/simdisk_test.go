package mailbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// faultRates are chances in a thousand of each call.
type faultRates struct {
	torn   int // some sectors land later than the others
	broken int // some sectors land, then the call fails
	lost   int // nothing lands and the call says it did
	failed int // nothing lands and the call fails
	late   int // the call is given up and lands, torn, afterwards
}

// stormy is for our sides, which bear all of it; rough is for peers that repeat nothing.
var (
	stormy = faultRates{torn: 100, broken: 20, lost: 20, failed: 20, late: 10}
	rough  = faultRates{torn: 100}
)

// simDisk is one process's way to a volume. Each sector lands or is read at once; a page is not.
type simDisk struct {
	*blockdev.Mem
	landed func(off int64, p []byte) // called when something has landed

	mu      sync.Mutex // guards the rest
	rng     *rand.Rand
	rates   faultRates
	pending int
	late    []int64 // offsets of the writes that were given up and have not landed
	beside  func(off int64)
	dead    bool
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// draw is how long a call takes and what becomes of it.
func (d *simDisk) draw() (took time.Duration, dice int, order []int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		err = blockdev.ErrGone
	}
	return time.Duration(200_000 + d.rng.IntN(3_000_000)), d.rng.IntN(1000), d.rng.Perm(pageSize / 512), err
}

func (d *simDisk) set(rates faultRates, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rates, d.dead = rates, dead
}

// Pending implements blockdev.Device.
func (d *simDisk) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pending
}

// ReadAt reads page by page, so that an image is never of one moment.
func (d *simDisk) ReadAt(ctx context.Context, p []byte, off int64) error {
	took, dice, _, err := d.draw()
	if err != nil {
		return err
	}
	if dice < d.now().failed {
		return fmt.Errorf("read: %w", blockdev.ErrGone)
	}
	if dice >= 1000-d.now().late {
		<-ctx.Done()
		return blockdev.ErrTimeout
	}
	half := len(p) / 2 / 512 * 512
	pause(ctx, took/2)
	copy(p[half:], d.Mem.Bytes(off+int64(half), int64(len(p)-half)))
	pause(ctx, took/2)
	copy(p[:half], d.Mem.Bytes(off, int64(half)))
	return ctx.Err()
}

func (d *simDisk) now() faultRates {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rates
}

// land puts the sectors of a write down, in an order of their own.
func (d *simDisk) land(p []byte, off int64, sectors []int) {
	for page := 0; page < len(p); page += pageSize {
		for _, s := range sectors {
			at := page + s*512
			d.Mem.SetBytes(off+int64(at), p[at:at+512])
		}
	}
	d.landed(off, p)
}

// WriteAt implements blockdev.Device.
func (d *simDisk) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := blockdev.SubmitCheck(ctx); err != nil {
		return err
	}
	took, dice, order, err := d.draw()
	if err != nil {
		return err
	}
	d.look(off, int64(len(p)))
	r, p := d.now(), append([]byte(nil), p...)
	pause(ctx, took)
	some := order[:1+len(order)/2]
	for what, rate := range []int{r.torn, r.broken, r.lost, r.failed, r.late} {
		if dice -= rate; dice >= 0 {
			continue
		}
		switch what {
		case 0:
			d.land(p, off, some)
			pause(ctx, 5*took)
		case 1:
			d.land(p, off, some)
			return fmt.Errorf("write: %w", blockdev.ErrGone)
		case 2:
			return nil
		case 3:
			return fmt.Errorf("write: %w", blockdev.ErrGone)
		case 4:
			d.giveUp(off)
			<-ctx.Done()
			go d.landLate(p, off, order, took)
			return blockdev.ErrOutcomeUnknown
		}
		break
	}
	d.land(p, off, order)
	return nil
}

// landLate is what becomes of a write that was given up.
func (d *simDisk) landLate(p []byte, off int64, order []int, took time.Duration) {
	time.Sleep(took * 1000)
	d.land(p, off, order[:4])
	time.Sleep(took * 100)
	d.land(p, off, order)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending--
	d.late = slices.DeleteFunc(d.late, func(o int64) bool { return o == off })
}

func (d *simDisk) giveUp(off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending++
	d.late = append(d.late, off)
}

// look blames a write over a place where an earlier one may still land.
func (d *simDisk) look(off, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.late {
		if o > 0 && o >= off && o < off+n {
			d.beside(o)
		}
	}
}
