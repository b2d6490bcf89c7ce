package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// tally judges what the workers of a contention test report, in the lines that testdata/client.c describes.
type tally struct {
	mu       sync.Mutex // guards all below
	slots    map[int]*slotTally
	versions map[uint64]int // who wrote under each version
	refused  map[string]int
	broken   []string
}

// slotTally is what is known of one worker's increments, over all its lives.
type slotTally struct {
	done   uint64 // increments that came back
	begun  uint64 // done, or one more while a write is under way or its worker was killed in it
	killed int
}

func newTally() *tally {
	return &tally{slots: map[int]*slotTally{}, versions: map[uint64]int{}, refused: map[string]int{}}
}

func (t *tally) slot(i int) *slotTally {
	if t.slots[i] == nil {
		t.slots[i] = &slotTally{}
	}
	return t.slots[i]
}

// line takes in one line of the worker that has the slot.
func (t *tally) line(slot int, line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.slot(slot)
	var v, n uint64
	switch {
	case strings.HasPrefix(line, "w "):
		_, _ = fmt.Sscanf(line, "w %d %d", &v, &n)
		t.begin(slot, s, v, n)
	case strings.HasPrefix(line, "d "):
		_, _ = fmt.Sscanf(line, "d %d", &n)
		s.done, s.begun = n, n
	case strings.HasPrefix(line, "r "):
		t.refused[line[2:]]++
	default:
		t.broken = append(t.broken, fmt.Sprintf("worker %d: %s", slot, strings.TrimPrefix(line, "v ")))
	}
}

// begin judges the start of a write: one owner for each version, and a worker's own count goes on where it was. The
// caller holds mu.
func (t *tally) begin(slot int, s *slotTally, version, n uint64) {
	if other, ok := t.versions[version]; ok {
		t.broken = append(t.broken, fmt.Sprintf("version %d has two owners: workers %d and %d", version, other, slot))
	}
	t.versions[version] = slot
	if n != s.done+1 && n != s.begun+1 {
		t.broken = append(t.broken, fmt.Sprintf("worker %d goes on at %d after %d", slot, n, s.done))
	}
	s.done, s.begun = n-1, n
}

// final compares the counter on the disk with what was reported.
func (t *tally) final(c *counter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sum uint64
	for i, own := range c.own {
		sum += own
		if s := t.slot(i); own != s.done && own != s.begun {
			t.broken = append(t.broken, fmt.Sprintf("worker %d did %d increments, the disk has %d", i, s.done, own))
		}
	}
	if sum != c.total {
		t.broken = append(t.broken, fmt.Sprintf("the count is %d, the sum of all increments %d", c.total, sum))
	}
}

// bad lists what went wrong.
func (t *tally) bad() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.broken...)
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for i := range 60 {
		if s := t.slots[i]; s != nil && s.begun > 0 {
			fmt.Fprintf(&b, "worker %d: %d increments, killed %d times; ", i, s.done, s.killed)
		}
	}
	fmt.Fprintf(&b, "refused: %v", t.refused)
	return b.String()
}

// grab takes the lease of the counter: its version, a check that it is good for a while, and how to give it back.
type grab func(ctx context.Context) (version uint64, good func(time.Duration) error, release func(context.Context) error, err error)

// worker is the counting loop of our hosts, the same as that in testdata/client.c.
type worker struct {
	dev  blockdev.Device
	off  int64
	slot int
	hold time.Duration
	grab grab
	say  func(string)
	mine uint64
}

// run counts until the context ends.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		actx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		version, good, release, err := w.grab(actx)
		if err != nil {
			w.refused(err)
			cancel()
			time.Sleep(rand.N(5 * time.Millisecond))
			continue
		}
		if err := w.increment(actx, version, good); err != nil && !overloaded(err) {
			w.say("v " + err.Error())
		}
		if err := release(actx); overloaded(err) {
			w.say("r release is slow") // the next acquire settles it
		} else if err != nil {
			w.say("v release: " + err.Error())
		}
		cancel()
		// A sanlock host that lost a ballot sleeps up to a second. Ours come back soon: without this rest they would be
		// alone most of the time.
		time.Sleep(rand.N(40 * time.Millisecond))
	}
}

func (w *worker) refused(err error) {
	var held *leases.HeldError
	switch {
	case errors.As(err, &held):
		w.say(fmt.Sprintf("r held by host %d", held.HostID))
	case overloaded(err):
		w.say("r slow")
	default:
		w.say("v acquire: " + err.Error())
	}
}

// overloaded says that the machine could not keep up. The next acquire sets right what that left.
func overloaded(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, blockdev.ErrOutcomeUnknown) || errors.Is(err, leases.ErrBusy)
}

// increment adds one under the lease of the given version and looks whether it was alone.
func (w *worker) increment(ctx context.Context, version uint64, good func(time.Duration) error) error {
	var c counter
	b := make([]byte, w.dev.SectorSize())
	if err := w.dev.ReadAt(ctx, b, w.off); err != nil {
		return err
	}
	if err := c.decode(b); err != nil {
		return err
	}
	if c.version >= version {
		return fmt.Errorf("a lease of version %d wrote before ours, which is %d", c.version, version)
	}
	if w.mine != 0 && c.own[w.slot] != w.mine {
		return fmt.Errorf("increments of ours were lost: %d on disk, %d done", c.own[w.slot], w.mine)
	}
	time.Sleep(rand.N(w.hold))
	if good(time.Second) != nil {
		return nil // no time left to write in
	}
	c.total, c.version, c.slot = c.total+1, version, uint64(w.slot)
	c.own[w.slot]++
	w.mine = c.own[w.slot]
	w.say(fmt.Sprintf("w %d %d", version, w.mine))
	wrote := c.encode(len(b))
	if err := w.dev.WriteAt(ctx, wrote, w.off); errors.Is(err, blockdev.ErrOutcomeUnknown) {
		for w.dev.Pending() > 0 { // it must not land after the release
			time.Sleep(time.Millisecond)
		}
		w.mine = 0 // it did or did not land; the tally takes both
		return nil
	} else if err != nil {
		return err
	}
	w.say(fmt.Sprintf("d %d", w.mine))
	time.Sleep(rand.N(w.hold))
	if err := w.dev.ReadAt(ctx, b, w.off); err != nil {
		return err
	}
	if !bytes.Equal(b, wrote) {
		return errors.New("somebody wrote under our lease")
	}
	return nil
}
