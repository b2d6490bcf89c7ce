package leases

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// TestToShared_unfinished: a conversion whose end did not reach the disk gives a shared lease that can be released and
// converted back without Settle; one whose write surely failed leaves the exclusive lease.
func TestToShared_unfinished(t *testing.T) {
	for name, next := range map[string]func(b *bubble, s *SharedLease) error{
		"release": func(b *bubble, s *SharedLease) error { return s.Release(b.ctx(time.Minute)) },
		"convert back": func(b *bubble, s *SharedLease) error {
			l, err := s.ToExclusive(b.ctx(time.Minute))
			if err != nil {
				return err
			}
			if l.Epoch() != 2 || b.leader().Timestamp == 0 {
				b.t.Errorf("version %d, leader %+v", l.Epoch(), b.leader())
			}
			return l.Release(b.ctx(time.Minute))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				one, two := b.two()
				f := b.faulty()
				spec := b.spec()
				spec.Device = f
				l, err := one.Acquire(b.ctx(time.Minute), spec)
				if err != nil {
					t.Fatal(err)
				}
				f.arm(1, fateLost, false) // the leader
				s, err := l.ToShared(b.ctx(time.Minute))
				if err != nil || l.Check(0) == nil || s.Check(0) != nil || b.leader().Timestamp == 0 {
					t.Fatalf("%v, leader %+v", err, b.leader())
				}
				if err := next(b, s); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				b.exclusive(two)
			})
		})
	}
	t.Run("surely not written", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bubble) {
			l := b.exclusive(b.join(1, "a", 2*Fast.IOTimeout))
			b.mem.SetReadOnly(true)
			if _, err := l.ToShared(b.ctx(time.Minute)); !errors.Is(err, blockdev.ErrReadOnly) || l.Check(0) != nil {
				t.Errorf("%v, exclusive %v", err, l.Check(0))
			}
			b.mem.SetReadOnly(false)
			b.convert(l)
		})
	})
}
