package leases

import (
	"errors"
	"testing"
	"time"
)

// TestAcquire_recordOfEarlierGeneration: a record that says "free" in an earlier generation, as a free on proof that lands
// late leaves it, is no evidence that the host which came back meanwhile is gone. It loses its host id at the next renewal,
// and what it holds can be taken 8N + W after its last good one, by those who wait and by those who only try.
func TestAcquire_recordOfEarlierGeneration(t *testing.T) {
	for how, hold := range map[string]func(b *bubble, ls *Lockspace) func(time.Duration) error{
		"exclusive": func(b *bubble, ls *Lockspace) func(time.Duration) error { return b.exclusive(ls).Check },
		"shared":    func(b *bubble, ls *Lockspace) func(time.Duration) error { return b.shared(ls).Check },
	} {
		for _, nowait := range []bool{false, true} {
			t.Run(how, func(t *testing.T) {
				inBubble(t, func(t *testing.T, b *bubble) {
					old := b.join(1, "a", 2*Fast.IOTimeout)
					free := b.leaderOf(1)
					free.Timestamp = 0
					one, two := b.two()
					if one.Generation() != old.Generation()+1 {
						t.Fatalf("generation %d", one.Generation())
					}
					check := hold(b, one)
					last := one.lastRenewal()
					b.putLeader(1, free)
					spec := b.spec()
					spec.NoWait = nowait
					err := b.insist(func() error {
						_, err := two.Acquire(b.ctx(time.Hour), spec)
						if err == nil && check(0) == nil {
							t.Error("two hosts have it")
						}
						return err
					})
					silent := b.clock.Boot() - last
					if err != nil || silent <= Fast.HostDead() || silent > Fast.HostDead()+2*Fast.RenewalPeriod()+2*time.Second {
						t.Errorf("%v after %v", err, silent)
					}
					if check(0) == nil || !errors.Is(one.Check(0), ErrLost) {
						t.Error("the host whose record was overwritten does not know")
					}
				})
			})
		}
	}
}
