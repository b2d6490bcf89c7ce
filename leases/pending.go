package leases

import (
	"context"
	"time"
)

// Undecided says that a write of ours to some resource may not have landed yet, or that its outcome is not settled. Until
// it is, this host must be taken for a user of the lockspace: what lands late could undo another host's acquire.
func (ls *Lockspace) Undecided() bool { return len(ls.undecided()) > 0 }

// WritesPending says that such a write is still on its way. It is for a lockspace that is lost, where nothing is settled
// any more.
func (ls *Lockspace) WritesPending() bool {
	for _, r := range ls.undecided() {
		if r.spec.Device.Pending() > 0 {
			return true
		}
	}
	return false
}

// undecided lists the resources under a call or in doubt.
func (ls *Lockspace) undecided() []*resource {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var found []*resource
	for _, r := range ls.leases {
		r.mu.Lock()
		if r.state == stateBusy || r.state == stateDoubt || r.state == stateSharedDoubt {
			found = append(found, r)
		}
		r.mu.Unlock()
	}
	return found
}

// settleDoubts undoes what calls with unknown outcome may have left, as long as that can be expected to succeed: a write
// that is late comes back or it does not.
func (ls *Lockspace) settleDoubts(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*ls.cfg.Profile.IOTimeout)
	defer cancel()
	for ls.inDoubt() && ls.Check(0) == nil {
		if ls.Settle(ctx) != nil && pause(ctx, settleAgain) != nil {
			return
		}
	}
}

// settleAgain is the pause after a resource that could not be settled.
const settleAgain = 50 * time.Millisecond

// inDoubt says that Settle has something to undo.
func (ls *Lockspace) inDoubt() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, r := range ls.leases {
		r.mu.Lock()
		doubt := r.state == stateDoubt || r.state == stateSharedDoubt
		r.mu.Unlock()
		if doubt {
			return true
		}
	}
	return false
}
