package manager

import (
	"context"

	"github.com/holdfast-io/holdfast/fsm"
)

// recordRole brings the mirror's word about the role up to date where the host itself could not.
func (t *term) recordRole(view *fsm.State, in Inputs, d Decision) {
	pool, ok := view.Pool()
	if !ok {
		return
	}
	want := pool.SPM
	switch {
	case d.Row == RowAdopt:
		want.Host, want.HostID, want.Epoch, want.State, want.Reason = d.Host, d.HostID, in.Lease.Version, fsm.SPMServing, pool.SPM.Reason
	case d.Row == RowFreeStopped, d.Row == RowFreeNobody, d.Row == RowLostDead, d.Row == RowFence:
		want.Host, want.HostID, want.State, want.Reason = "", 0, fsm.SPMNone, d.Reason
	case denied(&in, pool.SPM):
		want.Host, want.HostID, want.State, want.Reason = "", 0, fsm.SPMNone, pool.SPM.Host+" has given the role up: "+d.Reason
	default:
		return
	}
	same := want.Host == pool.SPM.Host && want.State == pool.SPM.State && want.Epoch == pool.SPM.Epoch
	if same || want.Epoch < pool.SPM.Epoch || (want.State == fsm.SPMNone && pool.SPM.State == fsm.SPMNone) {
		return
	}
	t.once(keyRole, func(ctx context.Context) {
		err := t.command(ctx, &fsm.SPMUpdate{Pool: pool.ID, ExpectEpoch: pool.SPM.Epoch, SPM: want, Time: t.m.cfg.Now().UnixNano()})
		if err != nil {
			t.report(err, "recording who is SPM")
			pause(ctx, t.m.cfg.Tick)
		}
	})
}

// denied tells whether the host that is recorded as SPM has been saying for a while that it is not, whatever the lease
// looks like: it may be unreadable for everybody.
func denied(in *Inputs, spm fsm.SPM) bool {
	h := in.byName(spm.Host)
	return spm.State == fsm.SPMServing && h != nil && h.Reachable && h.Role.State == RoleNone && h.RoleFor >= in.Policy.ReleaseAfter
}
