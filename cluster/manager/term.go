package manager

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// term is one leadership term: what was seen in it and what is being done. Nothing in it outlives it; the next
// leader starts from the mirror, the hosts and the disk.
type term struct {
	m     *Manager
	ctx   context.Context
	start time.Time
	// number is the leader's term; what was committed by another one is refused once this one has gone on.
	number uint64
	kick   chan struct{}
	wg     sync.WaitGroup

	// mu guards what follows.
	mu       sync.Mutex
	hosts    map[string]*sighting
	disk     diskFacts
	lookedAt time.Time            // when the last look at the disk began that has ended, whatever it found
	fresh    time.Time            // disk facts gathered before this are not believed: something was done since
	busy     map[string]bool      // actions under way, by key
	calm     bool                 // the last decision asks for nothing
	said     map[string]time.Time // when a failure was last recorded, by kind and host
	freed    map[slot]time.Time   // records that were freed on disk in this term, and when that was known
	late     map[slot]bool        // records that were freed again after a late write; there can be one
	void     map[slot]bool        // records that changed after a proof

	forbidden time.Time // when something last kept from fencing anybody

	intents map[string]int // by fence operation: the step that is an intent of this term and has not gone out

	domains domainWork // what domains are judged by

	spaces spaceFacts       // what keepers remember of all lockspaces
	tenure tenure           // who served last
	marks  map[string]*mark // by host: what is remembered to record its state; only the loop uses it

	outreach outreachSince // only the loop uses it
	leadAway leadAway
	spacesAt time.Time  // when watchSpaces looked last; only the loop uses it
	facing   string     // the master that disk facts are about
	facingAt time.Time  // since when
	asked    asked      // the holder of the lease, through the storage
	proofsAt time.Time  // when watchProofs looked last
	notes    sync.Mutex // held while an event is committed in the background, so that they stay in order
}

func newTerm(m *Manager, ctx context.Context) *term {
	return &term{m: m, ctx: ctx, start: m.cfg.Now(), number: m.cfg.Term(), intents: map[string]int{}, kick: make(chan struct{}, 1),
		hosts: map[string]*sighting{}, busy: map[string]bool{}, said: map[string]time.Time{}, freed: map[slot]time.Time{},
		late: map[slot]bool{}, void: map[slot]bool{}, marks: map[string]*mark{}, spaces: spaceFacts{}, domains: newDomainWork()}
}

// run is the loop.
func (t *term) run() {
	defer t.wg.Wait()
	tick := time.NewTicker(t.m.cfg.Tick)
	defer tick.Stop()
	for {
		changed := t.m.cfg.Cluster.Changed()
		t.step()
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		case <-t.kick:
		case ask := <-t.m.asks:
			t.wg.Go(func() { ask(t) })
		case host := <-t.m.edges:
			t.suspect(host)
		case <-changed:
		}
		pause(t.ctx, breath) // however fast answers and commits come, the loop never spins
	}
}

// breath is the least time between two steps.
const breath = 2 * time.Millisecond

// poke makes the loop look again at once.
func (t *term) poke() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// step looks, decides and begins what is to be done.
func (t *term) step() {
	view := t.m.cfg.Cluster.View()
	t.members(view)
	t.followMaster(view)
	in := t.inputs(view)
	t.settleOutreach(&in)
	d := Decide(in)
	if d.Row == RowAdopt {
		t.serves(d)
	}
	t.m.explain(view, in, d)
	t.mu.Lock()
	t.calm = d.Row == RowAdopt && d.Action == ActNone || d.Row == RowFreeStopped || d.Row == RowNoMaster
	t.mu.Unlock()
	if in.Master {
		t.look()
	}
	t.watchSPM(d)
	t.resumeFences(view)
	t.perform(view, in, d)
	for _, fd := range decideFences(in) {
		t.performFence(view, fd)
	}
	t.watchProofs(view)
	t.watchSpaces(view)
	t.powerOn(view, in)
	t.savePower(view, in, d)
	t.recordHosts(view, in)
	t.recordRole(view, in, d)
	t.lookAfterDomains(view)
	t.handLeadership(view, in)
}

// once runs fn unless something with this key is under way, and looks again when it is done.
func (t *term) once(key string, fn func(ctx context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[key] || t.ctx.Err() != nil {
		return
	}
	t.busy[key] = true
	t.wg.Go(func() {
		fn(t.ctx)
		t.mu.Lock()
		delete(t.busy, key)
		t.mu.Unlock()
		t.poke()
	})
}

// complainEvery is how often a failure that goes on is recorded again.
const complainEvery = 10 * time.Second

// complain records a failure; one that goes on does not fill the history.
func (t *term) complain(ctx context.Context, e fsm.Event) {
	now, key := t.m.cfg.Now(), e.Kind+" "+e.Host
	t.mu.Lock()
	last, again := t.said[key]
	due := !again || now.Sub(last) >= complainEvery
	if due {
		t.said[key] = now
	}
	t.mu.Unlock()
	if !due {
		t.m.cfg.Log.Warn(e.Message, "kind", e.Kind, "host", e.Host, "reason", e.Reason)
		return
	}
	t.report(t.record(ctx, e), "recording an event")
}

// note records one line of history in the background.
func (t *term) note(e fsm.Event) {
	t.wg.Go(func() {
		t.notes.Lock()
		defer t.notes.Unlock()
		t.report(t.record(t.ctx, e), "recording an event")
	})
}

// inputs makes the picture that Decide sees.
func (t *term) inputs(view *fsm.State) Inputs {
	now := t.m.cfg.Now()
	pool, _ := view.Pool()
	in := Inputs{Master: pool.Master != "", Active: activeDomains(view), TermAge: now.Sub(t.start), Policy: t.m.cfg.Policy.Under(view), Storage: map[int]Storage{}}
	in.DisarmedFor = max(in.Policy.DisarmedUntil.Sub(now), 0)
	fenced, _ := lastFences(view)
	in.Desired.Stopped = pool.SPM.Desired == fsm.DesireStopped
	in.Desired.Host, _ = pool.SPM.DesiredHost()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.disk.at.After(t.fresh) {
		in.Lease = t.disk.lease
		in.Lease.SeenFor = now.Sub(t.disk.leaseSince)
	}
	in.Looking = !t.lookedAt.After(t.fresh) && len(t.witnesses()) > 0
	in.AskedFor = now.Sub(t.asked.at)
	in.Asked = t.asked.version == in.Lease.Version && !t.asked.at.IsZero() && in.AskedFor < askAgain*t.m.cfg.Policy.YieldWait
	for _, h := range view.Hosts.All() {
		if s := t.hosts[h.Name]; s != nil {
			f := s.facts(now, h, t)
			f.Fenceable = len(t.m.cfg.Power.Groups(view, h.Name)) > 0
			f.FenceIn = quietLeft(fenced[h.Name], in.Policy.FenceQuiet, now)
			f.Doomed = doomed(view, h.Name)
			f.Reports = s.reachable && s.reply.Domains != nil
			f.Reach, f.Misses = reach(view, s.reply.Domains)
			f.ProofGen = provenGeneration(view, h, in.generationOf(h.HostID, t.disk.generation(h.HostID)))
			if t.void[slot{pool.Master, h.HostID, f.ProofGen}] {
				f.ProofGen = 0
			}
			in.Hosts = append(in.Hosts, f)
			in.Storage[h.HostID] = t.disk.storage(now, h.HostID, f.LostFor, f.Reachable, t.m.cfg.Policy)
		}
	}
	if in.forbidden() {
		t.forbidden = now
	}
	in.ClearFor = now.Sub(later(t.forbidden, t.start))
	if id := in.Lease.Owner; in.Lease.Held && in.byID(id) == nil {
		in.Storage[id] = t.disk.storage(now, id, 0, true, t.m.cfg.Policy)
	}
	return in
}

// generationOf is the life of a host that a proof has to be about: the one that its record shows, or in which it took the SPM lease.
func (in *Inputs) generationOf(hostID int, recorded uint64) uint64 {
	if in.Lease.Held && in.Lease.Owner == hostID {
		return max(recorded, in.Lease.Generation)
	}
	return recorded
}

// provenGeneration returns gen if a proof for exactly this generation of the host is recorded, else 0. A host that was removed and has
// joined again has the same name and another host id: proofs about the former one say nothing of it.
func provenGeneration(view *fsm.State, h fsm.Host, gen uint64) uint64 {
	p, ok := view.Proofs.Get(fsm.ProofKey(h.Name, gen))
	if !ok || gen == 0 || p.HostID != h.HostID {
		return 0
	}
	// A proof from before the present master was made for a generation of another lockspace.
	if pool, _ := view.Pool(); p.Time < pool.MasterSince {
		if s, ok := p.Space(pool.Master, ""); !ok || s.Generation != gen {
			return 0
		}
	}
	return gen
}

// command is fsm.Apply with the outcome's refusal as an error. It is never tried after the term.
func (t *term) command(ctx context.Context, cmd fsm.Command) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	out, err := t.m.cfg.Cluster.Apply(ctx, cmd)
	if err != nil {
		return err
	}
	return out.Err()
}

// subjectOf is what an event is about, by its kind.
func subjectOf(kind string) string {
	subject, _, _ := strings.Cut(kind, ".")
	return subject
}
