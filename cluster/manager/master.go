package manager

import (
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// assumed says that the last master was given up for lost, so that the mirror's word, and not the disk's, makes the present one.
func assumed(p fsm.Pool) bool {
	n := len(p.Former)
	return n > 0 && p.Former[n-1].Abandoned
}

// minEpoch is more than every epoch that the mirror has seen: the lease of a new master may have counted less.
func minEpoch(view *fsm.State, p fsm.Pool) uint64 {
	epoch := p.SPM.Epoch
	for _, d := range view.Domains.All() {
		epoch = max(epoch, d.Epoch)
	}
	return epoch + 1
}

// startRequest is what a host is asked that is to be SPM. expect is the version of the lease that the decision was made on.
func startRequest(view *fsm.State, p fsm.Pool, expect uint64, reason string) spm.StartRequest {
	return spm.StartRequest{ExpectVersion: expect, Master: p.Master, MasterVersion: p.MasterVersion, Assume: assumed(p), MinEpoch: minEpoch(view, p), Reason: reason}
}

// ofMaster says whether what a host saw is about the pool's present master. A host of an older release does not say.
func (t *term) ofMaster(id string) bool { return id == "" || id == t.master() }

// owes says that a host's last answer is about the former master and that the present one is so new that it may not have looked there yet:
// such an answer says nothing against the host. Caller holds term.mu.
func (t *term) owes(id string, now time.Time) bool {
	return !t.ofMaster(id) && now.Sub(t.facingAt) < t.m.cfg.Policy.StartTimeout
}

// followMaster forgets what was seen of the last master's lease and lockspace when the pool gets another one.
func (t *term) followMaster(view *fsm.State) {
	pool, _ := view.Pool()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.facing == pool.Master {
		return
	}
	if t.facing != "" {
		t.disk, t.asked, t.fresh = diskFacts{}, asked{}, t.m.cfg.Now()
	}
	t.facing, t.facingAt = pool.Master, t.m.cfg.Now()
}
