package export

import "sync"

// span is the bytes from from up to to, which is not one of them.
type span struct{ from, to int64 }

func (s span) overlaps(o span) bool { return s.from < o.to && o.from < s.to }

// rangeLocks let one mutation at a time work on a sector, so that a read-modify-write loses nobody's bytes. Who comes
// waits for those who came before and overlap, and for nobody else; so there is an order, and no deadlock.
type rangeLocks struct {
	mu   sync.Mutex // guards held
	held []*rangeHold
}

// rangeHold is a span that is locked, or in line for it.
type rangeHold struct {
	span
	done chan struct{} // closed at unlock
}

func (l *rangeLocks) lock(s span) *rangeHold {
	h := &rangeHold{span: s, done: make(chan struct{})}
	var before []*rangeHold
	l.mu.Lock()
	for _, o := range l.held {
		if o.overlaps(s) {
			before = append(before, o)
		}
	}
	l.held = append(l.held, h)
	l.mu.Unlock()
	for _, o := range before {
		<-o.done
	}
	return h
}

func (l *rangeLocks) unlock(h *rangeHold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, o := range l.held {
		if o == h {
			last := len(l.held) - 1
			l.held[i], l.held[last] = l.held[last], nil
			l.held = l.held[:last]
			break
		}
	}
	close(h.done)
}

// maxQuarantine bounds the spans that are remembered one by one; more become one that covers all.
const maxQuarantine = 64

// quarantine remembers where writes were abandoned. Until the device has them back they may land at any time, on top of
// whatever is written there later; so nothing is.
type quarantine struct {
	mu    sync.Mutex // guards spans
	spans []span
}

func (q *quarantine) add(s span) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.spans) < maxQuarantine {
		q.spans = append(q.spans, s)
		return
	}
	for _, o := range q.spans {
		s = span{min(s.from, o.from), max(s.to, o.to)}
	}
	q.spans = append(q.spans[:0], s)
}

// check fails while something abandoned may land on s. pending is the number of calls that are not back; an abandoned
// one is counted before its span is added.
func (q *quarantine) check(s span, pending func() int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.spans) == 0 {
		return nil
	}
	if pending() == 0 {
		q.spans = nil
		return nil
	}
	for _, o := range q.spans {
		if o.overlaps(s) {
			return ErrQuarantine
		}
	}
	return nil
}
