package manager

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// hostState commits one host's state, which has no deadline.
func (t *term) hostState(ctx context.Context, name, state, reason string) error {
	return t.command(ctx, &fsm.HostUpdate{Name: name, State: &state, Reason: &reason, Time: t.m.cfg.Now().UnixNano()})
}

// hostChange is a difference between the mirror's word about a host and what is seen.
type hostChange struct {
	old          fsm.Host
	next         HostNext
	generation   uint64
	space        string // the lockspace of the generation
	watchdog     string
	watchdogTime int
	witnesses    []fsm.Witness // nil: as they are
}

// says reports whether there is anything to commit.
func (c *hostChange) says() bool {
	return c.moves() || c.generation != c.old.Generation || c.witnesses != nil || c.watchdog != c.old.Watchdog || c.watchdogTime != c.old.WatchdogTime
}

// moves reports whether state, reason or deadline change.
func (c *hostChange) moves() bool {
	return c.next.State != c.old.State || c.next.Reason != c.old.Reason || c.next.Deadline != c.old.Deadline
}

// command makes the command that commits it.
func (c *hostChange) command(now time.Time) *fsm.HostUpdate {
	cmd := &fsm.HostUpdate{Name: c.old.Name, Time: now.UnixNano()}
	if c.generation != c.old.Generation {
		cmd.Generation, cmd.Space = &c.generation, c.space
	}
	if c.watchdog != c.old.Watchdog || c.watchdogTime != c.old.WatchdogTime {
		cmd.Watchdog, cmd.WatchdogTime = &c.watchdog, &c.watchdogTime
	}
	if c.moves() {
		cmd.State, cmd.Reason, cmd.Deadline = &c.next.State, &c.next.Reason, &c.next.Deadline
	}
	if c.witnesses != nil {
		cmd.Witnesses = &c.witnesses
	}
	return cmd
}

// recordHosts brings the mirror's word about the hosts up to date, with an event for each change of state.
func (t *term) recordHosts(view *fsm.State, in Inputs) {
	domains, troubles := domainIDs(view), t.storageTrouble(view)
	var changes []hostChange
	for i := range in.Hosts {
		f := &in.Hosts[i]
		h, ok := view.Hosts.Get(f.Name)
		if !ok {
			continue
		}
		if c := t.hostChange(h, t.hostView(h, f, &in, troubles[h.Name]), domains); c.says() {
			changes = append(changes, c)
			if c.next.State == h.State && !t.under("hosts") {
				t.marks[h.Name].tokens--
			}
		}
	}
	for name := range t.marks {
		if !view.Hosts.Has(name) {
			delete(t.marks, name)
		}
	}
	if len(changes) > 0 {
		t.once("hosts", func(ctx context.Context) { t.commitHosts(ctx, changes) })
	}
}

// hostChange compares one host with what is committed about it.
func (t *term) hostChange(h fsm.Host, v HostView, domains []string) hostChange {
	f := &v.Seen
	c := hostChange{old: h, next: NextHost(v), generation: h.Generation, space: t.master(), watchdog: h.Watchdog, watchdogTime: h.WatchdogTime}
	if f.Reachable {
		c.generation = max(c.generation, t.generationOf(f.Name))
		c.watchdog, c.watchdogTime = t.watchdogOf(f.Name, h)
	}
	seen := append(t.ownWitnesses(h, f, v.Policy), t.leaseWitnesses(domains, h.HostID)...)
	if next, changed := edges(h.Witnesses, seen, v.Now); changed {
		c.witnesses = next
	}
	if c.next.State == h.State && t.marks[h.Name].tokens == 0 {
		c.next, c.witnesses = v.stay(), nil
	}
	return c
}

// domainIDs names the domains of the pool, in order.
func domainIDs(view *fsm.State) []string {
	var ids []string
	for id := range view.Domains.All() {
		ids = append(ids, id)
	}
	return ids
}

// ownWitnesses are gossip and the leader's own questions.
func (t *term) ownWitnesses(h fsm.Host, f *Host, p Policy) []fsm.Witness {
	rpc := fsm.Witness{Kind: fsm.WitnessRPC, State: WitnessAnswers}
	switch {
	case f.Reachable:
	case f.LostFor >= p.Grace/2:
		rpc.State = WitnessSilent
	default: // too short to say anything new
		if i := slices.IndexFunc(h.Witnesses, func(w fsm.Witness) bool { return w.Kind == fsm.WitnessRPC }); i >= 0 {
			rpc.State = h.Witnesses[i].State
		}
	}
	gossip := fsm.Witness{Kind: fsm.WitnessGossip, State: WitnessUnknown}
	if t.m.cfg.Gossip != nil {
		gossip.State = t.m.cfg.Gossip.Says(h.Name)
	}
	return []fsm.Witness{gossip, rpc}
}

// maxLeaseWitnesses leaves room for the others within what is kept of a host.
const maxLeaseWitnesses = 250

func (t *term) leaseWitnesses(domains []string, hostID int) []fsm.Witness {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spaces.leaseWitnesses(domains[:min(len(domains), maxLeaseWitnesses)], hostID)
}

// commitHosts writes changes found by recordHosts. What somebody else has changed since is left for the next look.
func (t *term) commitHosts(ctx context.Context, changes []hostChange) {
	for _, c := range changes {
		now, ok := t.m.cfg.Cluster.View().Hosts.Get(c.old.Name)
		if !ok || now.State != c.old.State || now.Wish != c.old.Wish || t.fenceSays(c.old.Name) {
			continue
		}
		if err := t.command(ctx, c.command(t.m.cfg.Now())); err != nil {
			t.report(err, "recording the state of "+c.old.Name)
			pause(ctx, t.m.cfg.Tick)
			continue
		}
		if c.next.State != c.old.State {
			t.report(t.record(ctx, hostEvent(c)), "recording an event")
		}
	}
}

// hostEvent tells of a change of state.
func hostEvent(c hostChange) fsm.Event {
	severity := fsm.Info
	switch c.next.State {
	case fsm.HostNonResponsive, fsm.HostNonOperational, fsm.HostIsolated, fsm.HostDown:
		severity = fsm.Warning
	}
	return fsm.Event{Severity: severity, Kind: "host." + c.next.State, Host: c.old.Name, Reason: c.next.Reason,
		Evidence: evidence(c), Message: fmt.Sprintf("host %s is %s, was %s: %s", c.old.Name, c.next.State, c.old.CurrentState(), c.next.Reason)}
}

// evidence is what the witnesses say.
func evidence(c hostChange) string {
	list := c.witnesses
	if list == nil {
		list = c.old.Witnesses
	}
	return witnessed(list)
}

// witnessed is what witnesses say of a host.
func witnessed(list []fsm.Witness) string {
	s := ""
	for _, w := range list {
		if s != "" {
			s += ", "
		}
		s += w.Kind
		if w.Subject != "" {
			s += " " + w.Subject
		}
		s += ": " + w.State
	}
	return s
}

// under reports whether something with this key is under way.
func (t *term) under(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.busy[key]
}

// fencing reports whether a fence operation on the host is under way.
func (t *term) fencing(host string) bool {
	return t.under("fence " + host)
}

// fenceSays reports whether a host's state is for a fence operation to say: one is open, whoever began it, or acts, or has ended and its
// last word is not committed yet.
func (t *term) fenceSays(host string) bool {
	_, open := t.m.cfg.Cluster.View().OpenFence(host)
	return open || t.fencing(host) || t.under(keyFenced(host))
}

// fencedInVain is what the last operation on a host that is still recorded as being fenced came to, when that is no proof.
func (t *term) fencedInVain(h fsm.Host) string {
	if h.State != fsm.HostFencing {
		return ""
	}
	ops := t.m.cfg.Cluster.View().FencesOf(h.Name)
	if len(ops) == 0 {
		return ""
	}
	switch op := ops[len(ops)-1]; op.Outcome {
	case fsm.FenceFailed, fsm.FenceSkipped:
		return fencingEnded(op.Host, op.Outcome, op.Detail)
	}
	return ""
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
