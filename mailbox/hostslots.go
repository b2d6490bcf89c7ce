package mailbox

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/mailbox/internal/plant"
)

// phase is where the hand-shake of a slot is, as its host sees it.
type phase uint8

const (
	free    phase = iota // our slot is empty, the SPM's empty or CLEAN
	asked                // our slot has a message
	cleaned              // our slot is CLEAN: until the SPM's is too, and until the quarantine ends
)

// hostSlot is one slot of this host.
type hostSlot struct {
	phase   phase
	msg     Message   // when asked
	since   time.Time // when asked
	until   time.Time // when cleaned: not free before
	waiters []*ask    // when asked; empty when nobody waits any more
}

// hostSlots is the host's side of the hand-shake without its I/O: what our page is to say, from what the SPM's page says.
//
// It goes by levels: a slot is used only when the SPM's slot was seen empty or CLEAN, so a message there is the answer.
// A withdrawn request leaves its slot CLEAN, not empty: that stays on the storage as a sign to the next life of this host
// that an answer may still come, and makes any SPM wipe an answer that does.
type hostSlots struct {
	opt  HostOptions
	bugs plant.Bugs

	slot  [slotCount]hostSlot
	out   []byte // our page, without checksum
	peer  []byte // the SPM's page as last read
	next  int    // where to look for a free slot first
	dirty bool   // out is to be written

	asks, answers, withdrawn atomic.Uint64 // how many there were; counted before anybody is told
}

func newHostSlots(opt HostOptions, bugs plant.Bugs, first int) *hostSlots {
	return &hostSlots{opt: opt, bugs: bugs, out: make([]byte, pageSize), peer: make([]byte, pageSize), next: first}
}

// begin takes over what an earlier life left: in our page a message, to which an answer may come late, or CLEAN; in the
// SPM's page an answer that nobody wants.
func (s *hostSlots) begin(ours, theirs []byte, now time.Time) {
	copy(s.peer, theirs)
	for i := range slotCount {
		mine := slotOf(ours, i)
		if s.bugs.ForgetOldLife {
			continue
		}
		switch {
		case stateOf(mine) != Empty:
			s.clean(i, now.Add(s.opt.Quarantine))
		case stateOf(slotOf(theirs, i)) == Asking:
			s.clean(i, now)
		}
	}
	s.dirty = s.dirty || !bytes.Equal(ours[:checksumAt], s.out[:checksumAt])
}

// clean puts CLEAN into a slot.
func (s *hostSlots) clean(i int, until time.Time) {
	s.slot[i] = hostSlot{phase: cleaned, until: until}
	putClean(slotOf(s.out, i))
	s.dirty = true
}

// release makes a slot free.
func (s *hostSlots) release(i int) {
	s.slot[i] = hostSlot{}
	putEmpty(slotOf(s.out, i))
	s.dirty = true
}

// see takes in what the SPM's page says and returns whether anything went on.
func (s *hostSlots) see(theirs []byte, now time.Time) (progress bool) {
	copy(s.peer, theirs)
	for i := range s.slot {
		switch s.slot[i].phase {
		case asked:
			progress = s.seeAnswer(i, now) || progress
		case cleaned:
			progress = s.seeAck(i, now) || progress
		}
	}
	return progress
}

// seeAnswer looks for the answer to the request in slot i.
func (s *hostSlots) seeAnswer(i int, now time.Time) bool {
	theirs, sl := slotOf(s.peer, i), &s.slot[i]
	if stateOf(theirs) != Asking {
		return false
	}
	r, err := DecodeMessage(theirs)
	fits := err == nil && sl.msg.answers(r)
	if s.bugs.MatchVolumeOnly {
		fits = err == nil && r.Volume == sl.msg.Volume
	}
	if !fits {
		return false
	}
	var answer error
	if r.SizeMiB == 0 && !s.bugs.RefusedIsDone {
		answer = ErrRefused
	}
	s.answers.Add(1)
	s.finish(i, answer)
	s.clean(i, now)
	return true
}

// seeAck frees slot i when the SPM has seen our CLEAN and the quarantine is over.
func (s *hostSlots) seeAck(i int, now time.Time) bool {
	if now.Before(s.slot[i].until) || stateOf(slotOf(s.peer, i)) != Clean {
		return false
	}
	s.release(i)
	return true
}

// finish tells everybody who waits for slot i.
func (s *hostSlots) finish(i int, answer error) {
	for _, a := range s.slot[i].waiters {
		a.done <- answer
	}
}

// expire withdraws requests that are too old.
func (s *hostSlots) expire(now time.Time) {
	for i := range s.slot {
		sl := &s.slot[i]
		if sl.phase != asked || now.Sub(sl.since) < s.opt.WithdrawAfter || s.bugs.NeverWithdraw {
			continue
		}
		s.withdrawn.Add(1)
		s.finish(i, ErrWithdrawn)
		if s.bugs.ReuseAtOnce {
			s.release(i)
			s.next = i
			continue
		}
		s.clean(i, now.Add(s.opt.Quarantine))
	}
}

// place puts a request into a slot, or joins it to an equal one. It is false when no slot is free.
func (s *hostSlots) place(a *ask, now time.Time) bool {
	for i := range s.slot {
		if sl := &s.slot[i]; sl.phase == asked && sl.msg == a.msg {
			sl.waiters = append(sl.waiters, a)
			return true
		}
	}
	i, ok := s.findFree(now)
	if !ok {
		return false
	}
	s.slot[i] = hostSlot{phase: asked, msg: a.msg, since: now, waiters: []*ask{a}}
	b := a.msg.Encode()
	copy(slotOf(s.out, i), b[:])
	s.next, s.dirty = (i+1)%slotCount, true
	s.asks.Add(1)
	return true
}

// findFree goes round the slots, so that a slot rests as long as possible. One with an answer that came out of nowhere
// is cleaned first.
func (s *hostSlots) findFree(now time.Time) (int, bool) {
	for n := range slotCount {
		i := (s.next + n) % slotCount
		if s.slot[i].phase != free {
			continue
		}
		if stateOf(slotOf(s.peer, i)) == Asking && !s.bugs.ForgetOldLife && !s.bugs.ReuseAtOnce {
			s.clean(i, now)
			continue
		}
		return i, true
	}
	return 0, false
}

// waiting says what the next look is for: step when the SPM must do something, and the earliest end of a withdrawal
// or quarantine.
func (s *hostSlots) waiting() (step bool, end time.Time) {
	earlier := func(t time.Time) {
		if end.IsZero() || t.Before(end) {
			end = t
		}
	}
	for i := range s.slot {
		sl := &s.slot[i]
		switch {
		case sl.phase == asked:
			step = true
			earlier(sl.since.Add(s.opt.WithdrawAfter))
		case sl.phase == cleaned && stateOf(slotOf(s.peer, i)) != Clean:
			step = true
		case sl.phase == cleaned:
			earlier(sl.until)
		}
	}
	return step, end
}

// stop ends all requests and leaves an empty page, which asks for nothing.
func (s *hostSlots) stop() {
	for i := range s.slot {
		s.finish(i, ErrStopped)
		s.slot[i] = hostSlot{}
	}
	clear(s.out)
	s.dirty = true
}

// counts is how many slots are in each phase.
func (s *hostSlots) counts() (n [3]int) {
	for i := range s.slot {
		n[s.slot[i].phase]++
	}
	return n
}
