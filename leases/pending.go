package leases

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
