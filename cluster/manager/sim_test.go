package manager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// sim is a pool under virtual time: a lease on a disk with sanlock's rules, hosts that can be killed, cut off or hung,
// a real state machine, and a power switch. It notes every breach of safety.
type sim struct {
	mu       sync.Mutex
	fsm      *fsm.FSM
	index    uint64
	quorum   bool
	hosts    map[string]*simHost
	version  uint64
	holder   int
	gen      uint64
	breaches []string
	power    counts
	switchUp bool // the power switch answers
	rpcTook  time.Duration
	terms    uint64 // of leaders, so far

	offHangs, offLies, statusLies bool // what orders to the power switch come to
	offTakes                      time.Duration
	point                         func(what string) // told of everything that a fence operation does, before and after; may be nil

	yields    int
	noOn      bool // the power switch does not switch on
	beforeOff func(h *simHost)
	livesIn   map[string]string // by host: the lockspace where its record is alive whatever else happens
}

type simHost struct {
	s             *sim
	name          string
	id            int
	agent, keeper bool
	cut, hung     bool
	deaf          bool // does not heed requests through the storage
	stuck         bool // its keeper cannot take the lease off the disk
	stops         int  // requests to stop the role
	gen           uint64
	role          string
	epoch         uint64
	renewed       time.Time // when the keeper died, or zero
	free          bool
	freedAt       time.Time
	failStart     bool
	master        bool
	started       time.Time
	changed       chan struct{}
	other         otherRecord
	lateMaster    uint64
	uses          []string        // what keeps it from maintenance
	misses        map[string]bool // domains that it cannot reach
	renewals      string
	heeds         int64 // the time of the wish that it answers to; 0: that of the ping
	looks         uint64
}

// otherRecord is a host's record in the lockspace of a domain besides the master.
type otherRecord struct {
	gen   uint64
	free  bool
	late  uint64 // added to the time by writes that land after the host's death
	frees int
	seen  otherSeen // what keepers remember
}

type otherSeen struct {
	rec leases.HostRecord
	at  time.Time
}

const simPool, simMaster, simOther = "pool-1", "dom-1", "dom-2"

func newSim(t *testing.T, names ...string) *sim {
	t.Helper()
	s := &sim{fsm: fsm.New(), quorum: true, hosts: map[string]*simHost{}, version: 10, switchUp: true, rpcTook: 2 * time.Millisecond}
	now := time.Now().UnixNano()
	for i, n := range names {
		s.hosts[n] = &simHost{s: s, name: n, id: i + 1, agent: true, keeper: true, gen: 1, role: RoleNone, master: true,
			started: time.Now(), changed: make(chan struct{}), other: otherRecord{gen: 11}}
		h := fsm.Host{Name: n, Priority: 5, State: fsm.HostUp, KeyHash: n}
		if i == 0 {
			s.must(t, &fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: 1, Host: h, Time: now})
			continue
		}
		s.must(t, &fsm.TokenCreate{Token: fsm.Token{ID: n, Role: fsm.TokenJoin, SecretHash: n}})
		s.must(t, &fsm.HostJoin{Host: h, TokenID: n, Time: now})
	}
	s.must(t, &fsm.PoolCreate{Pool: fsm.Pool{ID: simPool, Name: "p", Master: simMaster, Profile: "dev"}, Time: now})
	return s
}

func (s *sim) must(t *testing.T, cmd fsm.Command) {
	t.Helper()
	out, err := s.Apply(t.Context(), cmd)
	if err = errors.Join(err, out.Err()); err != nil {
		t.Fatal(err)
	}
}

// Apply, View, Changed and Call make the sim a Cluster.
func (s *sim) Apply(ctx context.Context, cmd fsm.Command) (fsm.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.quorum {
		return fsm.Outcome{}, errors.New("no quorum")
	}
	if err := ctx.Err(); err != nil {
		return fsm.Outcome{}, err
	}
	b, err := fsm.Encode(cmd, "")
	if err != nil {
		return fsm.Outcome{}, err
	}
	s.at(fmt.Sprintf("before %T", cmd), cmd)
	if err := ctx.Err(); err != nil {
		return fsm.Outcome{}, err
	}
	s.judgeProof(cmd)
	s.index++
	out := s.fsm.Apply(s.index, b).(fsm.Outcome)
	s.at(fmt.Sprintf("after %T", cmd), cmd)
	return out, nil
}

// at tells of a point in a fence operation. Caller holds mu.
func (s *sim) at(what string, cmd fsm.Command) {
	switch cmd.(type) {
	case nil, *fsm.FenceBegin, *fsm.FenceAdvance, *fsm.FenceEnd:
		if s.point != nil {
			s.point(what)
		}
	}
}

// judgeProof notes a machine's proof of the death of a host that runs. Caller holds mu.
func (s *sim) judgeProof(cmd fsm.Command) {
	var p *fsm.Proof
	switch c := cmd.(type) {
	case *fsm.FenceEnd:
		p = c.Proof
	case *fsm.ProofAdd:
		p = &c.Proof
	}
	if p == nil || p.Kind == fsm.ProofPerson {
		return
	}
	if h := s.hosts[p.Host]; (h.agent || h.keeper) && h.id == p.HostID && h.gen <= p.Generation {
		s.breaches = append(s.breaches, "proved the death of a running host "+p.Host)
	}
}

func (s *sim) View() *fsm.State         { return s.fsm.View() }
func (s *sim) Changed() <-chan struct{} { return s.fsm.Changed() }

func (s *sim) Call(ctx context.Context, host, method string, in, out any) error {
	pause(ctx, s.rpcTook)
	s.mu.Lock()
	h := s.hosts[host]
	if h == nil || !h.agent {
		s.mu.Unlock()
		return errors.New("connection refused")
	}
	if h.cut || h.hung {
		s.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	if method == MethodFree || method == MethodSight {
		s.mu.Unlock()
		return h.witness(ctx, method, in, out)
	}
	if method == MethodPower || method == MethodPowerHealth {
		s.mu.Unlock()
		return h.proxy(ctx, method, in, out)
	}
	if method == MethodYield {
		s.mu.Unlock()
		return s.yield(ctx, in.(YieldRequest), out.(*YieldReply))
	}
	rep, wait, err := h.handle(method, in)
	s.mu.Unlock()
	if wait != nil {
		return h.watch(ctx, wait)
	}
	if err != nil {
		return err
	}
	b, _ := json.Marshal(rep)
	return json.Unmarshal(b, out)
}

// watch is the long call: it ends when the host's role or life changes.
func (h *simHost) watch(ctx context.Context, ch chan struct{}) error {
	select {
	case <-ch:
		return errors.New("connection reset")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handle answers one method. Caller holds mu.
func (h *simHost) handle(method string, in any) (any, chan struct{}, error) {
	switch method {
	case MethodPing:
		req, _ := in.(PingRequest) // a last question before a fence operation says nothing
		return h.ping(req), nil, nil
	case MethodInspect:
		return h.s.inspect(), nil, nil
	case spm.MethodStart:
		rep, err := h.start(in.(spm.StartRequest))
		return rep, nil, err
	case spm.MethodStop:
		return h.stop(), nil, nil
	case spm.MethodWatch:
		return nil, h.changed, nil
	}
	return nil, nil, fmt.Errorf("no method %s", method)
}

// ping is the host's answer about itself. Caller holds mu.
func (h *simHost) ping(req PingRequest) PingReply {
	rep := PingReply{Host: h.name, HostID: h.id, Generation: h.gen, KeeperOK: h.keeper, MasterValid: h.master, Started: h.started,
		Role: spm.Status{State: h.role, Epoch: h.epoch}, Renewals: h.renewals}
	if req.Want == fsm.WishMaintenance {
		rep.Use = &HostUse{Since: cmp.Or(h.heeds, req.Since), Uses: h.uses}
	}
	rep.Busy = new(len(h.uses))
	h.looks++
	rep.DomainsSeq = h.looks
	for id := range h.s.View().Domains.All() {
		r := DomainReport{Domain: id, Code: DomainOK, Looks: h.looks, Acquired: true, Open: true}
		if h.misses[id] {
			r.Code, r.Detail = DomainUnreachable, "no path to the LUN"
		}
		rep.Domains = append(rep.Domains, r)
	}
	return rep
}

// state is the lockspace's word about a host. Caller holds mu.
func (h *simHost) state() leases.HostStatus {
	st := leases.HostStatus{HostID: h.id, Generation: h.gen, Name: h.name, State: leases.HostLive}
	if h.keeper {
		st.Silent = time.Since(h.started) % (2500 * time.Millisecond)
		return st
	}
	st.Silent = time.Since(h.renewed)
	switch {
	case h.free:
		st.State = leases.HostFree
	case st.Silent > 10*time.Second:
		st.State = leases.HostDead
	case st.Silent > 8*time.Second:
		st.State, st.DeadIn = leases.HostFail, 10*time.Second-st.Silent
	default:
		st.DeadIn = 10*time.Second - st.Silent
	}
	return st
}

func (s *sim) byID(id int) *simHost {
	for _, h := range s.hosts {
		if h.id == id {
			return h
		}
	}
	return nil
}

func (s *sim) inspect() InspectReply {
	rep := InspectReply{Lease: spm.LeaseInfo{Held: s.holder != 0, Owner: s.holder, Generation: s.gen, Version: s.version}}
	for _, h := range s.hosts {
		rep.Hosts = append(rep.Hosts, h.remembered())
	}
	return rep
}

// remembered is what keepers know of the record: what they read at their last renewal. Caller holds mu.
func (h *simHost) remembered() leases.HostStatus {
	st := h.state()
	if since := time.Since(h.freedAt); !h.freedAt.IsZero() && since < 2500*time.Millisecond {
		st.State, st.Looked, st.DeadIn = leases.HostLive, since+time.Second, 8*time.Second
	}
	return st
}

// yield is a request through the storage: a holder that lives sees it within half a second, and lets go.
func (s *sim) yield(ctx context.Context, req YieldRequest, out *YieldReply) error {
	pause(ctx, 500*time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.yields++
	h := s.byID(s.holder)
	if h == nil || s.version != req.Version {
		out.Released = true
		return nil
	}
	if !h.agent || !h.keeper || h.hung || h.deaf {
		return errors.New("not released in time")
	}
	h.stop()
	out.Released, out.Took = true, 500*time.Millisecond
	return nil
}

// witness lets a real Witness answer, over the simulated records.
func (h *simHost) witness(ctx context.Context, method string, in, out any) error {
	w := &Witness{Host: h.name, HostID: h.id, Master: simMaster, Spaces: simSpaces{h.s}, Proofs: simProofs{h.s}}
	body, _ := json.Marshal(in)
	rep, err := w.Handlers()[method](ctx, "", body)
	if err != nil {
		return err
	}
	b, _ := json.Marshal(rep)
	return json.Unmarshal(b, out)
}

// proxy lets a real PowerProxy answer, over the simulated power switch.
func (h *simHost) proxy(ctx context.Context, method string, in, out any) error {
	p := &PowerProxy{Host: h.name, View: h.s.View, Switches: AgentSwitches(h.s, func(string) bool { return true })}
	body, _ := json.Marshal(in)
	rep, err := p.Handlers()[method](ctx, "", body)
	if err != nil {
		return err
	}
	b, _ := json.Marshal(rep)
	return json.Unmarshal(b, out)
}

type simProofs struct{ s *sim }

func (p simProofs) ProofOf(hostID int, lockspace string, generation uint64) (fsm.Proof, bool) {
	return p.s.View().ProofOf(hostID, lockspace, generation)
}

// simSpaces are the two lockspaces of the simulated pool.
type simSpaces struct{ s *sim }

func (simSpaces) Joined() []string { return []string{simMaster, simOther} }

func (x simSpaces) Hosts(_ context.Context, ls string) ([]leases.HostStatus, error) {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	var out []leases.HostStatus
	for _, h := range x.s.hosts {
		st := h.remembered()
		if x.s.livesIn[h.name] == ls {
			st.State, st.Silent, st.DeadIn = leases.HostLive, 0, 0
		}
		rec := h.record(ls)
		if ls == simOther { // read once in a renewal period
			if o := &h.other.seen; o.at.IsZero() || time.Since(o.at) >= 2500*time.Millisecond {
				o.rec, o.at = rec, time.Now()
			}
			rec, st.Looked = h.other.seen.rec, time.Since(h.other.seen.at)
		}
		st.Generation, st.Timestamp = rec.Generation, rec.Timestamp
		out = append(out, st)
	}
	return out, nil
}

func (x simSpaces) ReadHost(_ context.Context, ls string, id int) (leases.HostRecord, error) {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return x.s.byID(id).record(ls), nil
}

func (x simSpaces) FreeRecord(_ context.Context, ls string, seen leases.HostRecord) error {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	h := x.s.byID(seen.HostID)
	if h.record(ls) != seen {
		return leases.ErrChanged
	}
	if ls == simMaster {
		h.lateMaster = 0
		return x.s.freeHost(h)
	}
	if h.keeper || h.agent {
		x.s.breaches = append(x.s.breaches, "freed another record of a running host "+h.name)
	}
	h.other.free, h.other.frees = true, h.other.frees+1
	return nil
}

// record is what is on disk. Caller holds mu.
func (h *simHost) record(ls string) leases.HostRecord {
	r := leases.HostRecord{HostID: h.id, Generation: h.gen, IOTimeout: time.Second}
	until, free, late := time.Now(), h.free, h.lateMaster
	if !h.keeper {
		until = h.renewed
	}
	if ls == simOther {
		r.Generation, free, late = h.other.gen, h.other.free, h.other.late
	}
	if !free {
		r.Timestamp = 1000 + uint64(until.Sub(h.started)/time.Second) + late
	}
	return r
}

func (s *sim) freeHost(h *simHost) error {
	if h.keeper || h.agent {
		s.breaches = append(s.breaches, "freed the record of a running host "+h.name)
	}
	if !h.free {
		h.freedAt = time.Now()
	}
	h.free = true
	s.power.frees++
	return nil
}

// start takes the lease by sanlock's rules. Caller holds mu.
func (h *simHost) start(req spm.StartRequest) (spm.StartReply, error) {
	s := h.s
	switch {
	case h.failStart:
		return spm.StartReply{}, errors.New("cannot open the domain")
	case s.version != req.ExpectVersion:
		return spm.StartReply{}, spm.ErrChanged
	case s.holder != 0:
		o := s.byID(s.holder)
		st := o.state().State
		if o.gen == s.gen && st != leases.HostFree && st != leases.HostDead {
			s.breaches = append(s.breaches, "asked "+h.name+" to start while "+o.name+" is "+string(st))
			return spm.StartReply{}, leases.ErrHeld
		}
	}
	for _, o := range s.hosts {
		if o.agent && o.role == RoleServing && o != h {
			s.breaches = append(s.breaches, "two serve: "+o.name+" and "+h.name)
		}
	}
	s.version++
	s.holder, s.gen = h.id, h.gen
	h.setRole(RoleServing, s.version)
	return spm.StartReply{Epoch: s.version}, nil
}

func (h *simHost) stop() spm.StopReply {
	rep := spm.StopReply{WasServing: h.role == RoleServing, Epoch: h.epoch}
	h.stops++
	if h.s.holder == h.id && !h.stuck {
		h.s.holder = 0
	}
	h.setRole(RoleNone, 0)
	return rep
}

func (h *simHost) setRole(state string, epoch uint64) {
	h.role, h.epoch = state, epoch
	close(h.changed)
	h.changed = make(chan struct{})
}

// killAgent lets the keeper see it and free everything.
func (s *sim) killAgent(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[name]
	h.stop()
	h.agent, h.keeper, h.free, h.renewed = false, false, true, time.Now()
}

// kill leaves everything as it is on disk.
func (s *sim) kill(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killLocked(s.hosts[name])
}

func (s *sim) killLocked(h *simHost) {
	if !h.keeper && !h.agent {
		return
	}
	h.setRole(RoleNone, 0)
	h.agent, h.keeper, h.free, h.renewed = false, false, false, time.Now()
}

func (s *sim) boot(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[name]
	if h.agent {
		return
	}
	h.agent, h.keeper, h.cut, h.hung, h.role, h.epoch, h.started = true, true, false, false, RoleNone, 0, time.Now()
	h.freedAt = time.Time{}
	h.gen++
	h.free, h.other = false, otherRecord{gen: h.other.gen + 1, frees: h.other.frees}
}

// late lets a write of a dead host land in the other lockspace.
func (s *sim) late(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[name]
	h.other.free, h.other.late = false, h.other.late+1
}

func (s *sim) otherOf(name string) otherRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts[name].other
}

// Status, Off and On make the sim a fencing.Agent.
func (s *sim) Status(_ context.Context, host string) (fencing.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[host]
	switch {
	case !s.switchUp:
		return fencing.Unknown, errors.New("no answer")
	case (h.agent || h.keeper) && !s.statusLies:
		return fencing.On, nil
	}
	return fencing.Off, nil
}

func (s *sim) Off(ctx context.Context, host string) (fencing.Evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	takes := s.offTakes
	s.mu.Unlock()
	pause(ctx, takes)
	s.mu.Lock()
	if s.offHangs {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return fencing.Evidence{}, ctx.Err()
	}
	if !s.switchUp {
		return fencing.Evidence{}, errors.New("no answer")
	}
	h := s.hosts[host]
	if h.agent && !h.cut && !h.hung {
		s.breaches = append(s.breaches, "switched off a host that answers: "+host)
	}
	if op, _ := s.View().OpenFence(host); len(op.Steps) == 0 || op.Steps[len(op.Steps)-1].Result != fsm.StepIntent {
		s.breaches = append(s.breaches, "switched off "+host+" without an intent that is the last word")
	}
	s.at("before off", nil)
	defer s.at("after off", nil)
	s.power.offs++
	if s.offLies {
		return fencing.Evidence{Kind: fencing.KindProcessExit, Detail: "exited, it says"}, nil
	}
	if s.beforeOff != nil {
		s.beforeOff(h)
	}
	s.killLocked(h)
	return fencing.Evidence{Kind: fencing.KindProcessExit, Detail: "exited"}, nil
}

func (s *sim) On(_ context.Context, host string) error {
	s.mu.Lock()
	broken := s.noOn
	s.mu.Unlock()
	if broken {
		return errors.New("it does not switch on")
	}
	s.boot(host)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.power.on++
	return nil
}

// counts is how often the power switch was used.
type counts struct{ offs, on, frees int }

func (s *sim) switched() counts { s.mu.Lock(); defer s.mu.Unlock(); return s.power }

func (s *sim) leaseVersion() uint64 { s.mu.Lock(); defer s.mu.Unlock(); return s.version }

// serving returns who serves with a good lease.
func (s *sim) serving() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := ""
	for _, h := range s.hosts {
		if h.agent && h.role == RoleServing && s.holder == h.id && s.version == h.epoch {
			name = h.name
		}
	}
	return name
}

// lead runs a term of a leader on host until the returned func is called.
func (s *sim) lead(t *testing.T, host string, change ...func(*Config)) (*Manager, func()) {
	t.Helper()
	s.mu.Lock()
	s.terms++
	number := s.terms
	s.mu.Unlock()
	cfg := Config{Host: host, Cluster: s, Agent: s, Fenceable: func(string) bool { return true }, Policy: DefaultPolicy("dev"),
		Term: func() uint64 { return number }}
	for _, fn := range change {
		fn(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Lead(ctx) }()
	return m, func() { cancel(); <-done }
}

// until waits for a condition, and fails with the manager's own explanation.
func (s *sim) until(t *testing.T, what string, bound time.Duration, ok func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > bound {
			t.Fatalf("%s: not within %s; events: %v", what, bound, s.View().Events())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begun)
}

func (s *sim) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.breaches) > 0 {
		t.Fatalf("safety: %q", s.breaches)
	}
	for _, e := range unexplained(s.View().Events()) {
		t.Error(e)
	}
}

// simulate runs fn with a pool of three and a leader on c, the SPM elected.
func simulate(t *testing.T, fn func(t *testing.T, s *sim, m *Manager, spm string)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		m, stop := s.lead(t, "c")
		defer s.check(t)
		defer stop()
		s.until(t, "first election", 2*time.Second, func() bool { return s.serving() != "" })
		s.until(t, "the role in the mirror", time.Second, func() bool { p, _ := s.View().Pool(); return p.SPM.State == fsm.SPMServing })
		fn(t, s, m, s.serving())
	})
}
