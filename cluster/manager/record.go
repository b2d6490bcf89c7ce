package manager

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// States of a host that the manager writes besides those of package fsm.
const (
	HostUnresponsive = "unresponsive" // silent for longer than the grace time; nothing is proven
	HostFencing      = "fencing"      // being switched off
)

// hostChange is a difference between the mirror's word about a host and what is seen.
type hostChange struct {
	name, state, reason string
	generation          uint64
	space               string // the lockspace of the generation
	watchdog            string
	watchdogTime        int
}

// hostState commits one host's state.
func (t *term) hostState(ctx context.Context, name, state, reason string) error {
	return t.command(ctx, &fsm.HostUpdate{Name: name, State: &state, Reason: &reason, Time: t.m.cfg.Now().UnixNano()})
}

// recordHosts brings the host states of the mirror up to date, with an event for each change.
func (t *term) recordHosts(view *fsm.State, in Inputs) {
	var changes []hostChange
	for _, f := range in.Hosts {
		h, ok := view.Hosts.Get(f.Name)
		if !ok || t.fencing(f.Name) {
			continue
		}
		c := hostChange{name: f.Name, generation: h.Generation, space: t.master(), watchdog: h.Watchdog, watchdogTime: h.WatchdogTime}
		c.state, c.reason = nextState(h.State, f, in.Storage[f.HostID], t.steadyFor(f.Name), in.Policy)
		if f.Reachable {
			c.generation = max(c.generation, t.generationOf(f.Name))
			c.watchdog, c.watchdogTime = t.watchdogOf(f.Name, h)
		}
		if c.state != h.State || c.generation != h.Generation || c.watchdog != h.Watchdog || c.watchdogTime != h.WatchdogTime {
			changes = append(changes, c)
		}
	}
	if len(changes) > 0 {
		t.once("hosts", func(ctx context.Context) { t.commitHosts(ctx, view, changes) })
	}
}

// nextState is a host's state by what is seen, with hysteresis: a host that comes back must answer for a while, and
// one that falls silent has the grace time. Pure.
func nextState(old string, f Host, s Storage, steady time.Duration, p Policy) (state, reason string) {
	switch {
	case old == fsm.HostMaintenance:
		return old, ""
	case f.Reachable && (old == fsm.HostUp || old == fsm.HostJoining || old == "" || steady >= p.Grace/4):
		return fsm.HostUp, "it answers"
	case f.Reachable:
		return old, ""
	case old == fsm.HostFenced || f.LostFor < p.Grace:
		return old, ""
	case s.Status == Free:
		return fsm.HostDown, "it does not answer and has left the lockspace"
	case s.Status == Dead:
		return fsm.HostDown, "it does not answer and its lease is dead"
	case old == fsm.HostDown && s.Status == Unseen:
		return old, ""
	}
	return HostUnresponsive, "it does not answer"
}

// commitHosts writes changes found by recordHosts.
func (t *term) commitHosts(ctx context.Context, view *fsm.State, changes []hostChange) {
	for _, c := range changes {
		old, _ := view.Hosts.Get(c.name)
		cmd := &fsm.HostUpdate{Name: c.name, Time: t.m.cfg.Now().UnixNano()}
		if c.generation != old.Generation {
			cmd.Generation, cmd.Space = &c.generation, c.space
		}
		if c.watchdog != old.Watchdog || c.watchdogTime != old.WatchdogTime {
			cmd.Watchdog, cmd.WatchdogTime = &c.watchdog, &c.watchdogTime
		}
		if c.state != old.State {
			cmd.State, cmd.Reason = &c.state, &c.reason
		}
		if err := t.command(ctx, cmd); err != nil {
			t.report(err, "recording the state of "+c.name)
			pause(ctx, t.m.cfg.Tick)
			continue
		}
		if c.state == old.State {
			continue
		}
		severity := fsm.Warning
		if c.state == fsm.HostUp {
			severity = fsm.Info
		}
		t.report(t.event(ctx, severity, "host."+c.state, c.name, fmt.Sprintf("host %s is %s: %s", c.name, c.state, c.reason), 0), "recording an event")
	}
}

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

// fencing reports whether a fence operation on the host is under way.
func (t *term) fencing(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.busy["fence "+host]
}

// steadyFor is how long a host has answered every ping.
func (t *term) steadyFor(host string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.hosts[host]; s != nil && s.reachable {
		return t.m.cfg.Now().Sub(s.since)
	}
	return 0
}

// watchdogOf is what the host said about its watchdog, or what is recorded while it does not know.
func (t *term) watchdogOf(host string, h fsm.Host) (kind string, seconds int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.hosts[host]; s != nil && s.reply.Watchdog != "" {
		return s.reply.Watchdog, s.reply.WatchdogTime
	}
	return h.Watchdog, h.WatchdogTime
}

// generationOf is what the host said about its generation.
func (t *term) generationOf(host string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.hosts[host]; s != nil && t.ofMaster(s.reply.Master) {
		return s.reply.Generation
	}
	return 0
}
