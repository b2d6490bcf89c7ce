package leases

import (
	"context"
	"fmt"
)

// Destroy ends a lease together with its resource: the leader is marked as cleared, as sanlock does it, so that nobody can
// take the resource any more. It is for the end of what the lease protects. Releasing it first would let another host take
// it in between, whose blocks would then land in whatever the area is used for next. Nothing is written afterwards.
//
// After an error that wraps blockdev.ErrOutcomeUnknown the area must not be used for anything else by this host.
func (l *Lease) Destroy(ctx context.Context) error {
	r := l.r
	if _, err := r.begin(stateHeld); err != nil {
		return err
	}
	if err := r.ls.Check(0); err != nil {
		r.end(stateIdle)
		return err
	}
	gone := r.leader
	gone.Magic, gone.Timestamp = magicCleared, 0
	err := r.writeLeader(ctx, &gone)
	r.end(stateIdle)
	if err != nil {
		return fmt.Errorf("destroying resource %s: %w", r.spec.Name, err)
	}
	r.ls.mu.Lock()
	defer r.ls.mu.Unlock()
	delete(r.ls.leases, r.key())
	return nil
}
