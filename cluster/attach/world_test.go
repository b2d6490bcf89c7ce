package attach

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

const (
	dom  = "0f8a3c52-51d1-4f0e-8d2b-7d5a0f3f2b02"
	leaf = "a3b4c5d6-0000-4000-8000-000000000001"
	base = "a3b4c5d6-0000-4000-8000-000000000002"
	twin = "a3b4c5d6-0000-4000-8000-000000000003" // another leaf on base
	gib  = 1 << 30
)

// world is a storage with two hosts. Processes and leases live in it, and agents (Managers) come and go.
type world struct {
	t  *testing.T
	mu sync.Mutex // guards what follows

	vols   map[string]Volume
	leases map[string]*lease
	procs  map[int]*proc
	nextID int

	boot  string         // of h1 and h2 alike
	guest func(*Manager) // gives an agent a guest; nil: there is none

	freeOnAgentEnd bool // planted: leases end with the agent
	unguarded      bool // planted: what has no lease is let go all the same

	step  int // counts what an agent does, while counting is on
	crash int // the step at which it dies; 0: none
	trace []string
}

// lease is one volume's lease: a version, and processes that hold it.
type lease struct {
	version uint64
	holders map[int]bool // processes
	shared  bool
}

// proc is the process of a mapping.
type proc struct {
	w        *world
	id       int
	host     string
	volume   string
	readOnly bool
	open     bool // its clients can connect
	mute     bool // it does not answer
	gone     chan struct{}
	changed  chan struct{}
	st       Status
}

func newWorld(t *testing.T) *world {
	place := func(id string) Place { return Place{Lockspace: dom, Name: id, Device: "/dev/lun", Offset: 1 << 20} }
	vol := func(id, parent, typ string) Volume {
		return Volume{ID: id, Domain: dom, Name: "n-" + id[len(id)-1:], Format: domain.FormatQcow2, Type: typ, Legality: domain.Legal, Parent: parent,
			SizeBytes: 11 * gib, Grows: typ == domain.Leaf, Segments: []Segment{{"/dev/lun", 0, 5 * gib / 2}}, Lease: place(id), IOTimeout: time.Second}
	}
	return &world{t: t, leases: map[string]*lease{}, procs: map[int]*proc{}, nextID: 100, vols: map[string]Volume{
		leaf: vol(leaf, base, domain.Leaf), twin: vol(twin, base, domain.Leaf), base: vol(base, "", domain.Shared),
	}}
}

// at is one point at which an agent may die.
func (w *world) at(what string) {
	w.mu.Lock()
	w.step++
	w.trace = append(w.trace, what)
	dies := w.step == w.crash
	w.mu.Unlock()
	if dies {
		runtime.Goexit()
	}
}

// begin starts counting; at step crash the agent dies.
func (w *world) begin(crash int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.step, w.crash, w.trace = 0, crash, nil
}

// check is the law: one writer, who has the lease.
func (w *world) check() {
	w.t.Helper()
	if err := w.judge(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) judge() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	writers := map[string]int{}
	for _, p := range w.procs {
		if !p.open {
			continue
		}
		l := w.leases[p.volume]
		if l == nil || !l.holders[p.id] {
			return fmt.Errorf("process %d of %s serves %s without its lease", p.id, p.host, p.volume)
		}
		if !p.readOnly {
			writers[p.volume]++
		}
	}
	for v, n := range writers {
		if n > 1 {
			return fmt.Errorf("%d writers of %s", n, v)
		}
	}
	return nil
}

// left says what there is of a host: mappings, and leases of its processes.
func (w *world) left(host string) (procs, leases int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.procs {
		if p.host != host {
			continue
		}
		procs++
		for _, l := range w.leases {
			if l.holders[p.id] {
				leases++
			}
		}
	}
	return procs, leases
}

// pids are the processes that there are.
func (w *world) pids() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.procs))
}

// end is the end of a process: its leases are freed a moment later, by the keeper.
func (w *world) end(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.procs[id]
	if p == nil {
		return
	}
	delete(w.procs, id)
	p.open = false
	close(p.gone)
	time.AfterFunc(20*time.Millisecond, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, l := range w.leases {
			delete(l.holders, id)
		}
	})
}

// agentEnds is the end of a host's agent: what was not let go ends with its pipe.
func (w *world) agentEnds(host string) {
	w.mu.Lock()
	var gated []int
	for id, p := range w.procs {
		if p.host == host && !p.open {
			gated = append(gated, id)
		}
		if p.host == host && w.freeOnAgentEnd {
			for _, l := range w.leases {
				delete(l.holders, id)
			}
		}
	}
	w.mu.Unlock()
	for _, id := range gated {
		w.end(id)
	}
}

// host is one host's agent's view of the world: it implements Mapper, Leases and Disks.
type host struct {
	w    *world
	name string
}

func (h host) Kind() string { return "fake" }

func (h host) Volume(_ context.Context, _, id string) (Volume, error) {
	h.w.at("read")
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	v, ok := h.w.vols[id]
	if !ok {
		return Volume{}, domain.ErrNotFound
	}
	return v, nil
}

func (h host) Segments(_ context.Context, _, id string) ([]Segment, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return slices.Clone(h.w.vols[id].Segments), nil
}

func (h host) Prepare(_ context.Context, v Volume, readOnly bool) (Prepared, error) {
	h.w.at("prepare")
	h.w.mu.Lock()
	h.w.nextID++
	p := &proc{w: h.w, id: h.w.nextID, host: h.name, volume: v.ID, readOnly: readOnly, gone: make(chan struct{}), changed: make(chan struct{})}
	h.w.procs[p.id] = p
	h.w.mu.Unlock()
	h.w.at("prepared")
	return p, nil
}

func (h host) Find(_ context.Context, r Record) (Mapping, error) {
	h.w.at("find")
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	p := h.w.procs[r.Process.PID]
	if p == nil || !p.open || p.volume != r.Volume {
		return nil, ErrNotMapped
	}
	return p, nil
}

func (h host) End(_ context.Context, r Record) error {
	h.w.at("end")
	h.w.end(r.Process.PID)
	return nil
}

func (h host) Fits(Volume) error                         { return nil }
func (h host) Clear(ctx context.Context, r Record) error { return h.End(ctx, r) }
func (h host) Fail(context.Context, Record) error        { return nil }

func (h host) Take(_ context.Context, at Place, p Process, shared bool) (Held, error) {
	h.w.at("take")
	h.w.mu.Lock()
	l := h.w.leases[at.Name]
	if l == nil {
		l = &lease{holders: map[int]bool{}}
		h.w.leases[at.Name] = l
	}
	for id := range l.holders {
		if id != p.PID && (!shared || !l.shared) && !h.w.unguarded {
			holder := "?"
			if q := h.w.procs[id]; q != nil {
				holder = q.host
			}
			h.w.mu.Unlock()
			return Held{}, &domain.VolumeHeldError{Volume: at.Name, Holder: holder, Cause: errors.New("held")}
		}
	}
	if h.w.procs[p.PID] == nil {
		h.w.mu.Unlock()
		return Held{}, errors.New("no such process")
	}
	if !l.holders[p.PID] {
		l.version++
	}
	l.shared = shared
	l.holders[p.PID] = true
	held := Held{Version: l.version}
	h.w.mu.Unlock()
	h.w.at("taken")
	return held, nil
}

func (h host) Share(_ context.Context, at Place, p Process) error {
	h.w.at("share")
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	l := h.w.leases[at.Name]
	if l == nil || !l.holders[p.PID] {
		return errors.New("not held")
	}
	l.shared = true
	return nil
}

func (h host) AwaitFree(ctx context.Context, at Place) error {
	h.w.at("await free")
	for {
		h.w.mu.Lock()
		held := false
		if l := h.w.leases[at.Name]; l != nil {
			for id := range l.holders {
				p := h.w.procs[id]
				held = held || p == nil || p.host == h.name
			}
		}
		h.w.mu.Unlock()
		if !held {
			h.w.at("free")
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Prepared.
func (p *proc) Process() Process { return Process{PID: p.id, StartTime: uint64(p.id)} }

func (p *proc) Map(_ context.Context, r MapRequest) (Mapping, error) {
	p.w.at("map")
	p.w.mu.Lock()
	if p.w.procs[p.id] == nil {
		p.w.mu.Unlock()
		return nil, ErrGone
	}
	p.open = true
	p.st = Status{Seq: 1, SizeBytes: r.Volume.SizeBytes, AllocatedBytes: total(r.Volume.Segments), HighBytes: r.HighBytes}
	p.w.mu.Unlock()
	p.w.at("mapped")
	return p, nil
}

func (p *proc) Cancel(context.Context) error {
	p.w.at("cancel")
	p.w.end(p.id)
	return nil
}

// Mapping.
func (p *proc) Where() Where { return Where{URI: "nbd+unix:///" + p.volume} }

func (p *proc) Status(ctx context.Context) (Status, error) {
	p.w.mu.Lock()
	st, mute := p.st, p.mute
	p.w.mu.Unlock()
	if mute {
		<-ctx.Done()
	}
	return st, ctx.Err()
}

func (p *proc) Watch(ctx context.Context, seq uint64) (Status, error) {
	for {
		p.w.mu.Lock()
		st, changed, gone := p.st, p.changed, p.gone
		p.w.mu.Unlock()
		if st.Seq != seq {
			return st, nil
		}
		select {
		case <-changed:
		case <-gone:
			return Status{}, ErrGone
		case <-ctx.Done():
			return Status{}, context.Cause(ctx)
		}
	}
}

func (p *proc) Grow(_ context.Context, segs []Segment) (Status, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.st.AllocatedBytes = max(p.st.AllocatedBytes, total(segs))
	p.event()
	return p.st, nil
}

func (p *proc) Demote(context.Context) error {
	p.w.at("demote")
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.readOnly = true
	return nil
}

// event wakes the watchers; the caller holds mu.
func (p *proc) event() {
	p.st.Seq++
	p.st.Low = p.st.AllocatedBytes < p.st.SizeBytes && p.st.AllocatedBytes-p.st.HighBytes < 2*gib
	p.st.Waiting = 0
	if p.st.WantBytes > p.st.AllocatedBytes {
		p.st.Waiting = 1
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proc) Detach(context.Context) error {
	p.w.at("detach")
	p.w.end(p.id)
	p.w.at("detached")
	return nil
}

func (p *proc) Close() error { return nil }

// full is a storage that has no space.
type full struct{}

func (full) Extend(context.Context, string, string, int64) error { return domain.ErrFull }

// agent is one life of a host's agent.
type agent struct {
	*Manager
	w    *world
	host string
	stop context.CancelFunc
	done chan struct{}
}

// start begins an agent's life on a host's directory.
func (w *world) start(name, dir string, ext Extender) *agent {
	w.t.Helper()
	h := host{w, name}
	if ext == nil {
		ext = full{}
	}
	m, err := New(Config{Dir: dir, Boot: w.boot, Mappers: []Mapper{h}, Leases: h, Disks: h, Extender: ext, Growth: DefaultGrowth()})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.guest != nil {
		w.guest(m)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{Manager: m, w: w, host: name, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		_ = m.Run(ctx)
	}()
	time.Sleep(time.Second) // it has looked at what there is
	return a
}

// kill ends the agent at once.
func (a *agent) kill() {
	a.stop()
	<-a.done
	a.w.agentEnds(a.host)
}

// try does something that the agent may die of; false: it did.
func (a *agent) try(do func()) (lived bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
		lived = true
	}()
	<-done
	return lived
}

func (w *world) steps() (int, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.step, slices.Clone(w.trace)
}
