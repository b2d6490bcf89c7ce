package manager

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// keyRole is the key of everything that moves the role: one such action at a time.
const keyRole = "role"

// perform begins what Decide asks for.
func (t *term) perform(view *fsm.State, in Inputs, d Decision) {
	switch d.Action {
	case ActStart:
		t.once(keyRole, func(ctx context.Context) { t.startSPM(ctx, d, d.Expect) })
	case ActStop:
		next, _ := candidates(&in)
		t.once(keyRole, func(ctx context.Context) { t.handOver(ctx, d, next) })
	case ActYield:
		t.askHolder(d)
	case ActFence:
		t.performFence(view, d)
	case ActFree:
		t.performFence(view, d)
	case ActSettle:
		pool, _ := view.Pool()
		t.once(keyRole, func(ctx context.Context) {
			err := t.command(ctx, &fsm.SPMDesire{Pool: pool.ID, Desired: fsm.DesireAny, Expect: pool.SPM.Desired, Time: t.m.cfg.Now().UnixNano()})
			if !errors.Is(err, fsm.ErrConflict) { // else the operator wishes something new already
				t.report(err, "taking a wish back")
			}
		})
	case ActAlarm:
		t.once(keyRole, func(ctx context.Context) { t.sound(ctx, d) })
	case ActNone, ActWait:
	}
}

// startSPM commits the intent and asks the host to start. expect is the lease version that must still be there.
func (t *term) startSPM(ctx context.Context, d Decision, expect uint64) {
	defer t.stale()
	pool, ok := t.m.cfg.Cluster.View().Pool()
	if !ok {
		return
	}
	from := previousSPM(t.m.cfg.Cluster.View())
	now := t.m.cfg.Now()
	intent := &fsm.SPMUpdate{Pool: pool.ID, ExpectEpoch: pool.SPM.Epoch, Time: now.UnixNano(),
		SPM: fsm.SPM{Host: d.Host, HostID: d.HostID, Epoch: pool.SPM.Epoch, State: fsm.SPMStarting, Reason: d.Reason}}
	if err := t.command(ctx, intent); err != nil {
		t.report(err, "committing the intent to start the SPM")
		return
	}
	var rep spm.StartReply
	req := startRequest(t.m.cfg.Cluster.View(), pool, expect, d.Reason)
	err := t.call(ctx, t.m.cfg.Policy.StartTimeout, d.Host, spm.MethodStart, req, &rep)
	t.started(d.Host, err)
	if err != nil {
		t.complain(ctx, fsm.Event{Severity: fsm.Warning, Kind: "spm.start_failed", Host: d.Host, Reason: err.Error(), Evidence: "asked because: " + d.Reason,
			Message: fmt.Sprintf("%s could not take the SPM role: %v", d.Host, err)})
		return
	}
	message := fmt.Sprintf("%s is SPM (%s), %d volumes, %d ms from lease to serving", d.Host, d.Reason, rep.Volumes, rep.Took.Milliseconds())
	t.note(fsm.Event{Severity: fsm.Info, Kind: kindStarted, Host: d.Host, Message: message, Epoch: rep.Epoch, Reason: d.Reason})
	t.moved(from, d, rep.Epoch)
}

// started keeps the back-off of a host: doubling from half a second to 30 s, spread by name.
func (t *term) started(host string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.hosts[host]
	if s == nil {
		return
	}
	if err == nil {
		s.failures, s.retryAt = 0, time.Time{}
		return
	}
	s.failures++
	back := min(500*time.Millisecond<<min(s.failures-1, 6), 30*time.Second)
	h := fnv.New32a()
	h.Write([]byte(host))
	s.retryAt = t.m.cfg.Now().Add(back + back*time.Duration(h.Sum32()%100)/400)
}

// handOver asks a host to give the role up. When that is certain, the next host is asked at once: a release keeps the
// lease's version, and the start compares it.
func (t *term) handOver(ctx context.Context, d Decision, next []Host) {
	defer t.stale()
	var rep spm.StopReply
	err := t.call(ctx, t.m.cfg.Policy.StopTimeout, d.Host, spm.MethodStop, spm.StopRequest{Epoch: d.Epoch, Reason: d.Reason}, &rep)
	if err != nil {
		t.complain(ctx, fsm.Event{Severity: fsm.Warning, Kind: "spm.stop_failed", Host: d.Host, Reason: err.Error(), Evidence: "asked because: " + d.Reason,
			Message: fmt.Sprintf("%s did not give the SPM role up: %v", d.Host, err)})
		pause(ctx, t.m.cfg.Policy.ReleaseAfter)
		return
	}
	if d.Row == RowStaleOwner && !rep.WasServing {
		// What holds the lease is its keeper, which may have to wait for I/O of unknown outcome. The answer says nothing about that.
		t.complain(ctx, fsm.Event{Severity: fsm.Warning, Kind: "spm.lease_stale", Host: d.Host, Message: d.Reason, Reason: d.Reason,
			Evidence: d.Host + " answers that it does not serve"})
		pause(ctx, t.m.cfg.Policy.ReleaseAfter)
		return
	}
	message := fmt.Sprintf("%s gave the SPM role up: %s", d.Host, d.Reason)
	t.note(fsm.Event{Severity: fsm.Info, Kind: "spm.stopped", Host: d.Host, Message: message, Epoch: d.Epoch, Reason: d.Reason})
	t.because(d.Host, d.Cause)
	moving := d.Cause != "" && d.Row != RowUnwanted
	if moving && rep.WasServing && rep.Epoch == d.Epoch && len(next) > 0 {
		n := Decision{Host: next[0].Name, HostID: next[0].HostID, Reason: d.Reason}
		t.startSPM(ctx, n, d.Epoch)
	}
}

// sound stops a writer and calls a person.
func (t *term) sound(ctx context.Context, d Decision) {
	defer t.stale()
	if d.Host != "" {
		var rep spm.StopReply
		err := t.call(ctx, t.m.cfg.Policy.StopTimeout, d.Host, spm.MethodStop, spm.StopRequest{Reason: d.Reason}, &rep)
		t.report(err, "stopping a writer")
	}
	t.complain(ctx, fsm.Event{Severity: fsm.Error, Kind: "spm.conflict", Host: d.Host, Message: d.Reason, Reason: d.Reason})
	pause(ctx, t.m.cfg.Tick)
}

// call asks a host with a bound, in this term only.
func (t *term) call(ctx context.Context, bound time.Duration, host, method string, in, out any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return t.m.cfg.Cluster.Call(ctx, host, method, in, out)
}

// stale makes the loop look at the disk and at all hosts again before it decides about the role.
func (t *term) stale() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fresh = t.m.cfg.Now()
	for _, s := range t.hosts {
		select {
		case s.pingNow <- struct{}{}:
		default:
		}
	}
}

// report logs what could not be done; the loop tries again from what it sees then.
func (t *term) report(err error, what string) {
	if err != nil && t.ctx.Err() == nil {
		t.m.cfg.Log.Warn(what, "err", err)
	}
}
