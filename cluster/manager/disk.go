package manager

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// diskFacts is the last look at the master domain, merged over the witnesses.
type diskFacts struct {
	at         time.Time // when the look began; zero: never
	lease      Lease
	leaseSince time.Time
	hosts      map[int]seenHost
}

// seenHost is a host id as the liveliest witness saw it.
type seenHost struct {
	status    Liveness
	witnesses int
	gen       uint64
	changed   time.Time // when its record was last seen to change
	looked    time.Time // when it was last read
	deadIn    time.Duration
}

// storage makes the Storage that Decide sees.
func (f *diskFacts) storage(now time.Time, id int, lost time.Duration, reachable bool, p Policy) Storage {
	h, ok := f.hosts[id]
	if !ok {
		return Storage{}
	}
	s := Storage{Status: h.status, Witnesses: h.witnesses, Generation: h.gen}
	if h.deadIn > 0 {
		s.DeadIn = max(h.deadIn-now.Sub(f.at), 0)
	}
	if s.Still = h.looked.Sub(h.changed); s.Still < 0 || s.Status == Unknown {
		s.Still = 0
	}
	// A witness sees a renewal up to one period late, so only what it saw later than that is surely a new one.
	lastAnswer := now.Add(-lost)
	s.Renewing = reachable || h.changed.After(lastAnswer.Add(p.RenewPeriod))
	return s
}

// generation is the generation of a host id; 0 unknown.
func (f *diskFacts) generation(id int) uint64 { return f.hosts[id].gen }

// look begins a look at the disk when it is due: at each tick while something is going on, seldom otherwise.
func (t *term) look() {
	t.mu.Lock()
	due := !t.calm || !t.disk.at.After(t.fresh) || t.m.cfg.Now().Sub(t.disk.at) >= t.m.cfg.InspectEvery
	recent := t.m.cfg.Now().Sub(t.disk.at) < t.m.cfg.Tick/2 && t.disk.at.After(t.fresh)
	witnesses := t.witnesses()
	t.mu.Unlock()
	if !due || recent || len(witnesses) == 0 {
		return
	}
	t.once("look", func(ctx context.Context) { t.inspect(ctx, witnesses) })
}

// maxWitnesses bounds how many hosts read the disk for one look.
const maxWitnesses = 3

// witnesses returns hosts to ask: those that are not in the role first. Caller holds mu.
func (t *term) witnesses() []string {
	var free, busy []string
	for name, s := range t.hosts {
		switch {
		case !s.reachable || !s.reply.KeeperOK:
		case s.reply.Role.State == RoleNone || s.reply.Role.State == "":
			free = append(free, name)
		default:
			busy = append(busy, name)
		}
	}
	slices.Sort(free)
	slices.Sort(busy)
	all := append(free, busy...)
	return all[:min(len(all), maxWitnesses)]
}

// answer is one witness' reply.
type answer struct {
	host string
	rep  InspectReply
	at   time.Time
	err  error
}

// inspect asks the witnesses at the same time. Two answers are enough; one is, when the others take long.
func (t *term) inspect(ctx context.Context, witnesses []string) {
	ctx, cancel := context.WithTimeout(ctx, t.m.cfg.InspectTimeout)
	defer cancel()
	begun := t.m.cfg.Now()
	ch := make(chan answer, len(witnesses))
	for _, name := range witnesses {
		t.wg.Go(func() {
			a := answer{host: name}
			a.err = t.m.cfg.Cluster.Call(ctx, name, MethodInspect, struct{}{}, &a.rep)
			a.at = t.m.cfg.Now()
			ch <- a
		})
	}
	if got := collect(ctx, ch, len(witnesses), t.m.cfg.Tick); len(got) > 0 {
		t.merge(begun, got)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lookedAt = begun
}

// collect gathers answers until there are enough.
func collect(ctx context.Context, ch <-chan answer, n int, patience time.Duration) []answer {
	var got []answer
	tm := time.NewTimer(patience)
	defer tm.Stop()
	late := false
	for n > 0 && len(got) < 2 && !(late && len(got) > 0) {
		select {
		case a := <-ch:
			n--
			if a.err == nil {
				got = append(got, a)
			}
		case <-tm.C:
			late = true
		case <-ctx.Done():
			return got
		}
	}
	return got
}

// merge takes a look over.
func (t *term) merge(begun time.Time, got []answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	got = slices.DeleteFunc(got, func(a answer) bool { return !t.ofMaster(a.rep.Master) })
	if len(got) == 0 {
		return // they have not learned of the present master yet
	}
	lease := mergeLeases(got)
	old := t.disk.lease
	old.SeenFor = 0
	if t.disk.leaseSince.IsZero() || lease != old {
		t.disk.leaseSince = t.m.cfg.Now()
	}
	t.disk.at, t.disk.lease = begun, lease
	for _, a := range got {
		forgetFreed(a.rep.Hosts, t.master(), begun, t.freed)
	}
	t.disk.hosts = mergeHosts(got, t.disk.hosts)
}

// slot is one generation of a host id in a lockspace: what a proof is about and what is freed.
type slot struct {
	lockspace  string
	id         int
	generation uint64
}

// master is the lockspace of the master domain.
func (t *term) master() string {
	pool, _ := t.m.cfg.Cluster.View().Pool()
	return pool.Master
}

// forgetFreed corrects what keepers remember of records that were freed since they last read them; they read a record
// once in a renewal period. What they read later counts again: a dead host's last write may land after all.
func forgetFreed(hosts []leases.HostStatus, lockspace string, begun time.Time, freed map[slot]time.Time) {
	for i := range hosts {
		h := &hosts[i]
		if at, ok := freed[slot{lockspace, h.HostID, h.Generation}]; ok && begun.Add(-h.Looked).Before(at) {
			h.State, h.DeadIn = leases.HostFree, 0
		}
	}
}

// nowFree notes that a record was freed on disk, so that nobody frees it again on older news.
func (t *term) nowFree(s slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.freed[s] = t.m.cfg.Now()
	if h, ok := t.disk.hosts[s.id]; ok && s.lockspace == t.master() && h.gen == s.generation {
		h.status, h.deadIn = Free, 0
		t.disk.hosts[s.id] = h
	}
}

// mergeLeases takes the newest version that was read. Of one version, free is later than held, because a release
// keeps the version; two different owners of one version are a conflict.
func mergeLeases(got []answer) Lease {
	var l Lease
	for _, a := range got {
		r := a.rep.Lease
		if a.rep.LeaseError != "" {
			continue
		}
		next := Lease{Known: true, Held: r.Held, Owner: r.Owner, Generation: r.Generation, Version: r.Version}
		switch {
		case !l.Known || next.Version > l.Version:
			l = next
		case next.Version < l.Version:
		case l.Held && next.Held && (l.Owner != next.Owner || l.Generation != next.Generation):
			l.Conflict = true
		case l.Held && !next.Held:
			l = next
		}
	}
	return l
}

// rank orders states by how much life they show; Unknown lies below a clear death, because it says nothing.
var rank = map[leases.HostState]int{leases.HostUnknown: 1, leases.HostFree: 2, leases.HostDead: 3, leases.HostFail: 4, leases.HostLive: 5}

// mergeHosts merges the lockspace: the newest generation counts, and of it the liveliest answer.
func mergeHosts(got []answer, old map[int]seenHost) map[int]seenHost {
	out := map[int]seenHost{}
	for _, a := range got {
		for _, h := range a.rep.Hosts {
			s, changed := out[h.HostID], a.at.Add(-h.Silent)
			if h.Generation < s.gen {
				continue
			}
			better := rank[h.State] > rank[leases.HostState(s.status)] || h.Generation > s.gen
			s.witnesses++
			if better {
				s.status, s.gen, s.deadIn = Liveness(h.State), h.Generation, h.DeadIn
			}
			s.changed, s.looked = later(s.changed, changed), later(s.looked, a.at.Add(-h.Looked))
			out[h.HostID] = s
		}
	}
	for id, s := range out {
		if o, ok := old[id]; ok && o.gen == s.gen {
			s.changed = later(s.changed, o.changed)
			out[id] = s
		}
	}
	return out
}
