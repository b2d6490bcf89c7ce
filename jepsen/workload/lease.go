package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// holder is a VM on a host.
type holder struct {
	agent agent
	vm    string
}

// lease is one lease and what the clients know of it.
type lease struct {
	id     string
	made   bool
	ops    int
	doubts int
	holder *holder // who got it last and has not given it back; nil: nobody that is known
}

// leases is the small set of leases that clients fight for.
type leases struct {
	limit int
	mu    sync.Mutex // guards all below
	slots []*lease
	old   []*lease // out of use and held
}

func newLeases(n, limit int) *leases {
	s := &leases{limit: limit, slots: make([]*lease, n)}
	for i := range s.slots {
		s.slots[i] = &lease{id: uuid.NewString()}
	}
	return s
}

// pick draws a lease that is in use.
func (s *leases) pick(rnd *rand.Rand) *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := rnd.IntN(len(s.slots))
	l := s.slots[i]
	if l.ops >= s.limit || l.doubts >= doubts {
		if l.holder != nil {
			s.old = append(s.old, l)
		}
		l = &lease{id: uuid.NewString()}
		s.slots[i] = l
	}
	l.ops++
	return l
}

// pickOld takes a lease out that nobody uses any more; nil: there is none.
func (s *leases) pickOld() (*lease, *holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.old) == 0 {
		return nil, nil
	}
	l := s.old[0]
	s.old = s.old[1:]
	return l, l.holder
}

// known is who has a lease, as far as anybody was told.
func (s *leases) known(l *lease) (made bool, h *holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.made, l.holder
}

// learn notes what became of an operation. A release ends what is known, whatever came of it.
func (s *leases) learn(l *lease, op history.Op, h *holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case op.Outcome == history.Unknown:
		l.doubts++
	case op.Kind == history.LeaseAcquire && op.Outcome == history.OK:
		l.holder = h
	case op.Kind == history.LeaseRelease && op.Outcome == history.OK:
		l.holder = nil
	}
}

// ready makes the lease if that has not been done. That is no operation of its own: making what exists succeeds, and
// nobody fights over it.
func (w *worker) ready(ctx context.Context, l *lease) bool {
	if made, _ := w.leases.known(l); made {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, w.conf.Change)
	defer cancel()
	if _, err := w.agent().api.CreateLease(ctx, w.conf.Domain, l.id); err != nil {
		return false
	}
	w.leases.mu.Lock()
	defer w.leases.mu.Unlock()
	l.made = true
	return true
}

// anybody draws a VM on a host; there are few, so that they meet.
func (w *worker) anybody() *holder {
	return &holder{agent: w.agent(), vm: fmt.Sprintf("vm%d", w.rnd.IntN(2))}
}

// acquire tries to get a lease.
func (w *worker) acquire(ctx context.Context) {
	l := w.leases.pick(w.rnd)
	if !w.ready(ctx, l) {
		return
	}
	h := w.anybody()
	in := history.LeaseInput{VM: h.vm}
	op := w.ask(ctx, history.Op{Kind: history.LeaseAcquire, Key: l.id, Host: h.agent.name}, in, func(ctx context.Context) (answer, error) {
		got, err := h.agent.api.AcquireLease(ctx, w.conf.Domain, l.id, api.LeaseFor{VM: h.vm})
		return answer{out: history.LeaseAnswer{Host: got.Host, Version: got.Version}}, err
	})
	w.leases.learn(l, op, h)
}

// release gives a lease back, mostly one that is held.
func (w *worker) release(ctx context.Context) {
	if w.chance(oldShare) {
		if l, h := w.leases.pickOld(); h != nil { // one whose holder somebody else has released since is left
			w.releaseAs(ctx, l, h)
			return
		}
	}
	l := w.leases.pick(w.rnd)
	made, h := w.leases.known(l)
	if !made {
		return
	}
	if h == nil || w.chance(0.1) {
		h = w.anybody()
	}
	w.releaseAs(ctx, l, h)
}

func (w *worker) releaseAs(ctx context.Context, l *lease, h *holder) {
	in := history.LeaseInput{VM: h.vm}
	op := w.ask(ctx, history.Op{Kind: history.LeaseRelease, Key: l.id, Host: h.agent.name}, in, func(ctx context.Context) (answer, error) {
		got, err := h.agent.api.ReleaseLease(ctx, w.conf.Domain, l.id, api.LeaseFor{VM: h.vm})
		return answer{out: history.LeaseAnswer{Host: got.Host}}, err
	})
	w.leases.learn(l, op, h)
}

// inspect looks who has a lease.
func (w *worker) inspect(ctx context.Context) {
	l := w.leases.pick(w.rnd)
	if made, _ := w.leases.known(l); !made {
		return
	}
	a := w.agent()
	w.ask(ctx, history.Op{Kind: history.LeaseShow, Key: l.id, Host: a.name}, history.LeaseInput{}, func(ctx context.Context) (answer, error) {
		got, err := a.api.Lease(ctx, w.conf.Domain, l.id)
		return answer{out: history.LeaseAnswer{Host: got.Holder, Version: got.Version, Status: got.Status}}, err
	})
}
