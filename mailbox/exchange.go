package mailbox

import (
	"fmt"
	"time"
)

// exchange is what goes on in one slot from the sight of a message, or of CLEAN, until the slot says something else. The
// life of a message as one exchange is what makes it answered once.
type exchange struct {
	req    Request
	known  bool // req is a message that can be answered
	step   step
	job    *job          // when working
	expire time.Time     // when working: answered "not done" then
	answer uint32        // when answered or blanked: the size in the answer
	again  time.Time     // when not working: the next repetition
	wait   time.Duration // between repetitions
}

// step is what the SPM's slot says.
type step uint8

const (
	working  step = iota // nothing yet
	ignored              // nothing ever: the message has an unknown opcode
	answered             // the answer
	blanked              // nothing for a while, so that the answer that comes again is a change
	acked                // CLEAN
)

// slotID names a slot of the mailbox: host*64 + slot.
func slotID(host, slot int) int { return host*slotSize + slot }

// serverSlots is the SPM's side of the hand-shake without its I/O and its workers: what the outgoing image is to say,
// from what the hosts' pages say.
type serverSlots struct {
	cfg   *ServerConfig
	seen  []byte            // of each slot, what was last acted on
	out   []byte            // the outgoing image
	dirty []bool            // pages of out that are to be written
	open  map[int]*exchange // by slotID
	full  bool              // a request found no room in the queue

	room  func(domain UUID) bool    // whether the queue has room
	start func(id int, e *exchange) // puts a request into the queue

	requests, done, refused uint64 // how many there were
}

func newServerSlots(cfg *ServerConfig) *serverSlots {
	n := cfg.Options.Hosts
	s := &serverSlots{cfg: cfg, seen: make([]byte, n*pageSize), out: make([]byte, n*pageSize), dirty: make([]bool, n),
		open: map[int]*exchange{}}
	for i := range s.dirty {
		s.dirty[i] = true // the answers of an earlier SPM go
	}
	return s
}

// page takes in a page that differs from what was seen. The error is about its checksum; then nothing was taken in, so
// what is new will still be new when the page is whole.
func (s *serverSlots) page(host int, p []byte, now time.Time) (changed bool, err error) {
	seen := pageOf(s.seen, host)
	if string(seen) == string(p) {
		return false, nil
	}
	if err := verifyPage(p); err != nil {
		if s.cfg.Bugs.BadPageIsEmpty {
			s.forget(host)
		}
		return false, fmt.Errorf("page of host %d: %w", host, err)
	}
	for i := range slotCount {
		mine, theirs := slotOf(seen, i), slotOf(p, i)
		if string(mine) != string(theirs) && s.slot(host, i, theirs, now) {
			copy(mine, theirs)
			changed = true
		}
	}
	copy(seen[slotCount*slotSize:], p[slotCount*slotSize:])
	return changed, nil
}

// forget is what VDSM does with a torn page.
func (s *serverSlots) forget(host int) {
	clear(pageOf(s.seen, host))
	for i := range slotCount {
		delete(s.open, slotID(host, i))
	}
}

// slot takes in what a slot says now. It is false when there was no room for it.
func (s *serverSlots) slot(host, i int, theirs []byte, now time.Time) bool {
	id := slotID(host, i)
	switch stateOf(theirs) {
	case Empty:
		s.drop(id)
		s.unsay(host, i)
	case Clean:
		s.drop(id)
		s.ack(host, i, now)
	default:
		return s.ask(host, i, theirs, now)
	}
	return true
}

// drop ends the exchange of a slot; a request that was not begun will not be.
func (s *serverSlots) drop(id int) {
	if e := s.open[id]; e != nil && e.job != nil {
		e.job.dropped.Store(true)
	}
	delete(s.open, id)
}

// unsay takes back an answer that nobody waits for, so that the next one is a change. CLEAN stays.
func (s *serverSlots) unsay(host, i int) {
	if mine := slotOf(pageOf(s.out, host), i); stateOf(mine) == Asking {
		putEmpty(mine)
		s.dirty[host] = true
	}
}

// ack says CLEAN to CLEAN.
func (s *serverSlots) ack(host, i int, now time.Time) {
	putClean(slotOf(pageOf(s.out, host), i))
	s.dirty[host] = true
	s.open[slotID(host, i)] = &exchange{req: Request{Host: host, Slot: i}, step: acked,
		again: now.Add(s.cfg.Options.Repeat), wait: s.cfg.Options.Repeat}
}

// ask begins an exchange for a message.
func (s *serverSlots) ask(host, i int, theirs []byte, now time.Time) bool {
	m, err := DecodeMessage(theirs)
	e := &exchange{req: Request{Message: m, Host: host, Slot: i}, expire: now.Add(s.cfg.Options.AnswerWithin),
		known: string(theirs[opcodeAt:domainAt]) == opExtend && theirs[0] == version}
	id := slotID(host, i)
	if err == nil && m.SizeMiB > 0 && !s.room(m.Domain) {
		s.full = true
		return s.cfg.Bugs.ForgetWhenFull
	}
	s.drop(id)
	s.unsay(host, i)
	s.open[id] = e
	s.requests++
	switch {
	case !e.known:
		e.step = ignored
		s.cfg.Log.Warn("mailbox message cannot be answered", "host_id", host, "slot", i, "error", err)
	case err != nil || m.SizeMiB == 0:
		s.cfg.Log.Warn("mailbox request is refused", "host_id", host, "slot", i, "request", m.String(), "error", err)
		s.answer(id, false, now)
	default:
		s.start(id, e)
	}
	return true
}

// answer puts the answer to a request into the image.
func (s *serverSlots) answer(id int, done bool, now time.Time) {
	e := s.open[id]
	e.step, e.job = answered, nil
	e.again, e.wait = now.Add(s.cfg.Options.Repeat), s.cfg.Options.Repeat
	if s.done++; done {
		e.answer = e.req.SizeMiB
	} else {
		s.refused++
	}
	s.say(e)
}

// say writes the answer of an exchange into the image.
func (s *serverSlots) say(e *exchange) {
	m := e.req.Message
	m.SizeMiB = e.answer
	b := m.Encode()
	host := e.req.Host
	if s.cfg.Bugs.WrongPage && host+1 < len(s.dirty) {
		host++
	}
	copy(slotOf(pageOf(s.out, host), e.req.Slot), b[:])
	s.dirty[host] = true
}

// result takes in what the handler said. Nobody hears it when the slot says something else by now, or was answered
// because the time was up.
func (s *serverSlots) result(j *job, now time.Time) {
	e := s.open[j.id]
	if s.cfg.Bugs.AnswerTheGone && (e == nil || e.job != j) {
		s.say(&exchange{req: j.req, answer: answerSize(j.req.Message, j.err)})
		return
	}
	if e == nil || e.job != j {
		return
	}
	if j.err != nil && s.cfg.Bugs.SilentFailure {
		e.step = ignored
		return
	}
	s.answer(j.id, j.err == nil, now)
}

func answerSize(m Message, err error) uint32 {
	if err != nil {
		return 0
	}
	return m.SizeMiB
}

// tick answers what takes too long and repeats what had no effect. It is cheap when nothing is open.
func (s *serverSlots) tick(now time.Time) {
	for id, e := range s.open {
		switch {
		case e.step == working && !now.Before(e.expire) && !s.cfg.Bugs.NoAnswerDeadline:
			e.job.dropped.Store(true)
			s.cfg.Log.Warn("mailbox request was not done in time", "host_id", e.req.Host, "request", e.req.String())
			s.answer(id, false, now)
		case e.step > ignored && !now.Before(e.again):
			s.repeat(e, now)
		}
	}
}

// repeat writes an acknowledgement again; an answer is taken back first, because a host that remembers it from an
// earlier life takes only a change for an answer.
func (s *serverSlots) repeat(e *exchange, now time.Time) {
	if e.step == acked && s.cfg.Bugs.AckOnce || e.step != acked && s.cfg.Bugs.AnswerOnce {
		return
	}
	mine := slotOf(pageOf(s.out, e.req.Host), e.req.Slot)
	switch e.step {
	case acked:
		putClean(mine)
	case answered:
		putEmpty(mine)
		e.step = blanked
	case blanked:
		s.say(e)
		e.step = answered
	}
	s.dirty[e.req.Host] = true
	if e.step != blanked {
		e.wait = min(2*e.wait, 64*s.cfg.Options.Repeat)
	}
	e.again = now.Add(e.wait)
	if e.step == blanked {
		e.again = now.Add(s.cfg.Options.Repeat)
	}
}
