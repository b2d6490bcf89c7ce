package manager

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// sighting is what this term has seen of one host. term.mu guards it, but for the channels.
type sighting struct {
	name    string
	cancel  context.CancelFunc
	pingNow chan struct{}

	answered  bool
	reachable bool
	last      time.Time // of the last answer
	since     time.Time // of the first answer in the present row of answers
	reply     PingReply
	roleSince time.Time
	domains   map[string]domainSeen // by domain

	asked bool          // a ping has ended, with or without an answer
	rtt   time.Duration // of pings, smoothed

	power    Power
	powerAt  time.Time
	powerTry time.Time // when a group that is not local was asked last

	emptySince time.Time // since when it has said that it uses nothing
	health     powerHealth

	failures int
	retryAt  time.Time
}

// members starts and stops watchers as the membership changes.
func (t *term) members(view *fsm.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range view.Hosts.All() {
		if t.hosts[h.Name] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(t.ctx)
		s := &sighting{name: h.Name, cancel: cancel, pingNow: make(chan struct{}, 1)}
		t.hosts[h.Name] = s
		t.wg.Go(func() { t.pingLoop(ctx, s) })
	}
	for name, s := range t.hosts {
		if !view.Hosts.Has(name) {
			s.cancel()
			delete(t.hosts, name)
		}
	}
}

// pingLoop asks one host again and again. A host that hangs holds up nobody but its own loop.
func (t *term) pingLoop(ctx context.Context, s *sighting) {
	tick := time.NewTicker(t.m.cfg.Tick)
	defer tick.Stop()
	for {
		if t.ping(ctx, s) {
			t.poke()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.pingNow:
		}
	}
}

// ping asks once and returns whether something changed that a decision may depend on.
func (t *term) ping(ctx context.Context, s *sighting) bool {
	cctx, cancel := context.WithTimeout(ctx, t.m.cfg.PingTimeout)
	defer cancel()
	var rep PingReply
	proof, proven := t.provenOff(s.name)
	begun := t.m.cfg.Now()
	req := t.pingRequest(s.name)
	req.Domains = t.reportsSeen(s)
	err := t.m.cfg.Cluster.Call(cctx, s.name, MethodPing, req, &rep)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		changed := t.missed(s)
		return t.askPower(ctx, s) || changed
	}
	t.timed(s, t.m.cfg.Now().Sub(begun))
	if proven && t.ofMaster(rep.Master) && disproves(proof, &rep) {
		t.disproved(proof)
	}
	return t.seen(s, rep)
}

// timed smooths the time that answers take, over about eight of them.
func (t *term) timed(s *sighting, rtt time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.rtt == 0 {
		s.rtt = rtt
	}
	s.rtt += (rtt - s.rtt) / 8
}

// seen notes an answer.
func (t *term) seen(s *sighting, rep PingReply) bool {
	now := t.m.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	news := s.heard(&rep, now)
	changed := news || !s.reachable || s.reply.Role.State != rep.Role.State || s.reply.Role.Epoch != rep.Role.Epoch ||
		s.reply.KeeperOK != rep.KeeperOK || s.reply.MasterValid != rep.MasterValid || s.reply.Generation != rep.Generation || s.reply.Master != rep.Master
	if !s.answered || s.reply.Role.State != rep.Role.State || s.reply.Role.Epoch != rep.Role.Epoch {
		s.roleSince = now
	}
	if !s.reachable {
		s.since = now
	}
	if !s.reply.Started.Equal(rep.Started) {
		s.failures, s.retryAt = 0, time.Time{} // another agent: its predecessor's failures say nothing
	}
	if rep.Busy == nil || *rep.Busy > 0 {
		s.emptySince = time.Time{}
	} else if s.emptySince.IsZero() {
		s.emptySince = now
	}
	s.asked, s.answered, s.reachable, s.last, s.reply, s.power = true, true, true, now, rep, PowerUnknown
	return changed
}

// reportsSeen is the number of the domain reports that this term has from a host.
func (t *term) reportsSeen(s *sighting) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.reply.DomainsSeq
}

// heard takes over what the host reports of domains; with nothing new the last reports stay. It returns whether a verdict may depend
// on it. Caller holds term.mu.
func (s *sighting) heard(rep *PingReply, now time.Time) bool {
	if rep.DomainsSeq != 0 && rep.DomainsSeq == s.reply.DomainsSeq {
		rep.Domains = s.reply.Domains
		return false
	}
	s.domains = domainsHeard(s.domains, rep.Domains, now)
	return true
}

// missed notes a ping without answer.
func (t *term) missed(s *sighting) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := s.reachable || !s.asked
	s.asked, s.reachable = true, false
	return changed
}

// facts makes the Host that Decide sees. Caller holds term.mu.
func (s *sighting) facts(now time.Time, h fsm.Host, t *term) Host {
	f := Host{Name: h.Name, HostID: h.HostID, Priority: h.Priority, Reachable: s.reachable, Answered: s.answered, Unasked: !s.asked,
		Maintenance: h.State == fsm.HostMaintenance, Leaving: leaving(h), Renewals: s.reply.Renewals, KeeperOK: s.reply.KeeperOK,
		MasterValid: s.reply.MasterValid && t.ofMaster(s.reply.Master), MasterOwed: t.owes(s.reply.Master, now),
		Role: Role{State: s.reply.Role.State, Epoch: s.reply.Role.Epoch}, RoleFor: now.Sub(s.roleSince), RTT: s.rtt,
		Unprotected: !h.Protected(), Failures: s.failures, RetryIn: max(s.retryAt.Sub(now), 0)}
	if s.reply.Busy != nil {
		f.Uses = *s.reply.Busy
	}
	if f.Role.State == "" {
		f.Role.State = RoleNone
	}
	if !s.reachable {
		f.LostFor = now.Sub(later(s.last, t.start))
		if f.SilentFor = f.LostFor; !s.answered {
			f.SilentFor = max(f.LostFor, committedSilence(h, now))
		}
		// The switch's "off" counts only with a look at the disk made after it: a process that exits frees its lease first.
		if s.power != PowerOff || t.disk.at.After(s.powerAt) {
			f.Power = s.power
		}
	}
	return f
}

// committedSilence is how long ago it was committed that the host does not answer, by the clock of the leader who did; 0: it is not, or a
// clock is wrong.
func committedSilence(h fsm.Host, now time.Time) time.Duration {
	for _, w := range h.Witnesses {
		if w.Kind == fsm.WitnessRPC && w.State == WitnessSilent && w.Since > 0 {
			return max(since(now, w.Since), 0)
		}
	}
	return 0
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// watchKey names the SPM that a long call is open to.
type watchKey struct {
	host  string
	epoch uint64
}

// watchSPM keeps one long call open to the SPM. Its end, or the end of its connection, comes long before a ping fails.
func (t *term) watchSPM(d Decision) {
	if d.Row != RowAdopt {
		return
	}
	key := watchKey{d.Host, d.Epoch}
	t.once("watch "+d.Host, func(ctx context.Context) {
		wait := 10 * t.m.cfg.Policy.Grace
		ctx, cancel := context.WithTimeout(ctx, wait+t.m.cfg.PingTimeout)
		defer cancel()
		var st spm.Status
		begun := t.m.cfg.Now()
		err := t.m.cfg.Cluster.Call(ctx, key.host, spm.MethodWatch, spm.WatchRequest{Epoch: key.epoch, Wait: wait}, &st)
		if err != nil || st.State != spm.StateServing || st.Epoch != key.epoch {
			t.suspect(key.host)
		}
		if t.m.cfg.Now().Sub(begun) < t.m.cfg.Tick {
			pause(ctx, t.m.cfg.Tick) // never a tight loop with a host that answers at once
		}
	})
}

// suspect pings a host at once and looks at the disk.
func (t *term) suspect(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.hosts[host]; s != nil {
		select {
		case s.pingNow <- struct{}{}:
		default:
		}
	}
}

// pause waits d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	tm := time.NewTimer(d)
	defer tm.Stop()
	select {
	case <-tm.C:
	case <-ctx.Done():
	}
}
