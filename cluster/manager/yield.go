package manager

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// YieldRequest asks a host to ask the holder of the SPM lease, through the storage alone, to give the role up.
type YieldRequest struct {
	// Version is that of the lease; a holder of another one is not asked.
	Version uint64 `json:"version"`
}

// YieldReply tells what came of it. The request was taken back.
type YieldReply struct {
	Released bool          `json:"released"` // the lease is free, or in other hands
	Took     time.Duration `json:"took_ns"`
}

// Asker asks the holder of the SPM lease through the storage, and waits until the lease changes or ctx ends.
type Asker interface {
	AskHolder(ctx context.Context, version uint64) (released bool, err error)
}

// Yield asks the holder of the lease on a leader's behalf.
func (w *Witness) Yield(ctx context.Context, req YieldRequest) (YieldReply, error) {
	begun := time.Now()
	released, err := w.Asker.AskHolder(ctx, req.Version)
	return YieldReply{Released: released, Took: time.Since(begun)}, err
}

// askFirst decides whether the holder, which does not answer, is asked through the storage before anything else is done to
// it. Asking does no harm: a dead one does not hear it, and one that lives loses a role that nobody can reach.
func askFirst(in *Inputs, x *Host, s Storage, why string) (Decision, bool) {
	p := in.Policy
	wished := in.Desired.Stopped || in.Desired.Host != "" && in.Desired.Host != x.Name
	switch {
	case s.Status != Live && s.Status != Unknown || x.Power == PowerOff:
		return Decision{}, false
	case in.Asked:
		if in.AskedFor < p.YieldWait {
			return wait(RowAsked, why+" and was asked through the storage to give the role up", "its answer there", p.YieldWait-in.AskedFor), true
		}
		return Decision{}, false
	case x.LostFor < p.YieldAfter && !wished:
		return Decision{}, false
	}
	cause := MovedIsolated
	if wished {
		cause = MovedOperator
	}
	return Decision{Action: ActYield, Row: RowYield, Host: x.Name, HostID: x.HostID, Expect: in.Lease.Version, Cause: cause,
		Reason: why + ": it is asked through the storage to give the role up"}, true
}

// askAgain is after how many times YieldWait a holder that did not heed a request is asked again.
const askAgain = 10

// asked is a request that this term has made.
type asked struct {
	version uint64
	at      time.Time
}

// askHolder begins to ask the holder of the lease through a host that reaches the storage. Beside it nothing else waits: the
// holder may be dead.
func (t *term) askHolder(d Decision) {
	t.mu.Lock()
	via := t.witnesses()
	if len(via) > 0 {
		t.asked = asked{d.Expect, t.m.cfg.Now()}
	}
	t.mu.Unlock()
	if len(via) == 0 {
		return
	}
	t.once("yield", func(ctx context.Context) {
		t.note(fsm.Event{Severity: fsm.Warning, Kind: "spm.asked", Host: d.Host, Message: fmt.Sprintf("%s (through %s)", d.Reason, via[0]), Epoch: d.Expect,
			Reason: d.Reason})
		var rep YieldReply
		err := t.call(ctx, t.m.cfg.Policy.YieldWait, via[0], MethodYield, YieldRequest{Version: d.Expect}, &rep)
		t.report(err, "asking "+d.Host+" through the storage")
		if rep.Released {
			t.because(d.Host, d.Cause)
			t.note(fsm.Event{Severity: fsm.Info, Kind: "spm.yielded", Host: d.Host, Epoch: d.Expect, Reason: d.Reason, Evidence: "released as seen by " + via[0],
				Message: fmt.Sprintf("%s gave the SPM role up, %d ms after it was asked through the storage", d.Host, rep.Took.Milliseconds())})
			t.stale()
		}
	})
}
