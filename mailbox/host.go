package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Host is the side that asks. Make it with NewHost, let Run run, call Extend from anywhere.
type Host struct {
	cfg   HostConfig
	log   *slog.Logger
	queue *askQueue
	stats hostCounters

	// The rest belongs to Run.
	slots   *hostSlots
	rng     *rand.Rand
	page    []byte        // for reading
	doubt   bool          // a write did not come back: it may still land
	poll    time.Duration // until the next look, while something is under way
	repeat  time.Duration // until the page is written again
	written time.Time     // when the page was last written
	checked time.Time     // when our own page was last known to be as it should
	failed  bool          // the last turn had an I/O error
}

// HostStats counts what a Host did since it was made.
type HostStats struct {
	Reads, Writes   uint64 // device calls
	Asked, Answered uint64 // asked counts requests that came into a slot
	Withdrawn       uint64
	SlotsAsked      int // slots with a request now
	SlotsCleaned    int // slots on their way back to free, or in quarantine, now
}

type hostCounters struct {
	reads, writes            atomic.Uint64
	slotsAsked, slotsCleaned atomic.Int64
}

// Stats is safe to call at any time.
func (h *Host) Stats() HostStats {
	c, s := &h.stats, h.slots
	return HostStats{Reads: c.reads.Load(), Writes: c.writes.Load(), Asked: s.asks.Load(), Answered: s.answers.Load(),
		Withdrawn: s.withdrawn.Load(), SlotsAsked: int(c.slotsAsked.Load()), SlotsCleaned: int(c.slotsCleaned.Load())}
}

// NewHost makes the host's side; it does no I/O.
func NewHost(cfg HostConfig) (*Host, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	rng := newRand(cfg.Rand)
	return &Host{cfg: cfg, log: cfg.Log.With("host_id", cfg.HostID), queue: newAskQueue(cfg.Options.Queue), rng: rng,
		slots: newHostSlots(cfg.Options, cfg.Bugs, rng.IntN(slotCount)), page: make([]byte, pageSize)}, nil
}

// Run serves Extend until ctx ends, and then empties the page. It is to be called once. It returns nil after an orderly
// end and an error when the page could not be emptied: an SPM may then carry out what was asked.
func (h *Host) Run(ctx context.Context) error {
	defer h.queue.close()
	began := false
	for {
		wait := h.cfg.Options.LastPoll
		if began = began || h.begin(ctx); began {
			wait = h.turn(ctx)
		}
		if !h.sleep(ctx, wait, began) {
			return h.end(ctx, began)
		}
	}
}

// sleep waits until the next turn is due or there is a request. It is false when ctx has ended.
func (h *Host) sleep(ctx context.Context, d time.Duration, mayWake bool) bool {
	wake := h.queue.wake
	if !mayWake || h.failed {
		wake = nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// begin reads both pages. Nothing is asked before it succeeded.
func (h *Host) begin(ctx context.Context) bool {
	ours := make([]byte, pageSize)
	err := h.readOwn(ctx, ours)
	if err == nil {
		err = h.readAnswers(ctx)
	}
	h.note(err)
	if err != nil {
		return false
	}
	h.slots.begin(ours, h.page, time.Now())
	h.checked = time.Now()
	h.soon()
	return true
}

// end writes the last page.
func (h *Host) end(ctx context.Context, began bool) error {
	h.slots.stop()
	if !began {
		return nil
	}
	if err := h.write(ctx); err != nil {
		return fmt.Errorf("emptying the mailbox page of host %d: %w", h.cfg.HostID, err)
	}
	return nil
}

// turn does what is due now and returns when the next turn is.
func (h *Host) turn(ctx context.Context) time.Duration {
	err := h.work(ctx)
	h.note(err)
	h.publish()
	if err != nil || h.slots.dirty {
		return h.cfg.Options.LastPoll
	}
	return h.next(time.Now())
}

// publish copies the counters of the slots for Stats.
func (h *Host) publish() {
	n := h.slots.counts()
	h.stats.slotsAsked.Store(int64(n[asked]))
	h.stats.slotsCleaned.Store(int64(n[cleaned]))
}

// work is one round: read the answers, take requests, write the page.
func (h *Host) work(ctx context.Context) error {
	if step, end := h.slots.waiting(); !step && end.IsZero() && h.queue.empty() && !h.slots.dirty {
		if time.Since(h.checked) < h.cfg.Options.IdleCheck {
			return nil
		}
		return h.check(ctx)
	}
	if err := h.readAnswers(ctx); err != nil {
		h.slots.expire(time.Now())
		return err
	}
	now := time.Now()
	if h.slots.see(h.page, now) {
		h.soon()
	}
	h.slots.expire(now)
	before := h.slots.asks.Load()
	h.queue.take(func(a *ask) bool { return h.slots.place(a, now) })
	if h.slots.asks.Load() != before {
		h.soon()
	}
	h.again(now)
	return h.write(ctx)
}

// again has the page written once more when it had no effect for long: it may have got lost.
func (h *Host) again(now time.Time) {
	step, _ := h.slots.waiting()
	if !step || h.slots.dirty || now.Sub(h.written) < h.repeat || h.cfg.Bugs.WriteOnce {
		return
	}
	h.slots.dirty, h.repeat = true, min(2*h.repeat, 16*h.cfg.Options.Repeat)
}

// soon makes the next looks quick: something went on.
func (h *Host) soon() {
	h.poll, h.repeat = h.cfg.Options.FirstPoll, h.cfg.Options.Repeat
}

// next is how long the loop may sleep when all went well.
func (h *Host) next(now time.Time) time.Duration {
	step, end := h.slots.waiting()
	wait := h.checked.Add(h.cfg.Options.IdleCheck).Sub(now)
	if !end.IsZero() {
		wait = end.Sub(now)
	}
	if step {
		wait = min(wait, h.poll)
		h.poll = min(h.poll*3/2, h.cfg.Options.LastPoll)
	}
	return max(wait, time.Millisecond)
}

// check looks whether our page is as it should be when nothing is under way.
func (h *Host) check(ctx context.Context) error {
	if err := h.readOwn(ctx, h.page); err != nil {
		return err
	}
	h.checked = time.Now()
	sealPage(h.slots.out)
	if bytes.Equal(h.page, h.slots.out) {
		return nil
	}
	h.log.Warn("mailbox page was not as written, it is written again")
	h.slots.dirty = true
	return h.write(ctx)
}

// note logs the first of several errors, and the end of them.
func (h *Host) note(err error) {
	switch {
	case err != nil && !h.failed:
		h.log.Warn("mailbox I/O of this host failed, it is tried again", "error", err)
	case err == nil && h.failed:
		h.log.Info("mailbox I/O of this host works again")
	}
	h.failed = err != nil
}

// errInDoubt says that a write may still land, so that the next one has to wait.
var errInDoubt = errors.New("an earlier write has not come back")
