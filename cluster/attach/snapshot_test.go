package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/mapper/qmp"
)

const overlay = "e3b4c5d6-0000-4000-8000-000000000004" // what the SPM makes

// simGuest is a guest's QEMU in a world: the node that it writes, and what it has open.
type simGuest struct {
	w      *world
	top    string         // node name; guarded by w.mu like the rest
	layers map[string]int // of the nodes that are open
	away   bool           // it does not answer
}

func newSimGuest(w *world) *simGuest {
	return &simGuest{w: w, top: nodeName(leaf), layers: map[string]int{nodeName(leaf): 1}}
}

func (g *simGuest) ask(ctx context.Context, _ Record, do func(context.Context, nodes) error) error {
	g.w.mu.Lock()
	away := g.away
	g.w.mu.Unlock()
	if away {
		return qmp.ErrNotStarted
	}
	return do(ctx, g)
}

func (g *simGuest) Nodes(context.Context) (out []qmp.Node, err error) {
	g.w.at("nodes")
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	for name, n := range g.layers {
		out = append(out, qmp.Node{Name: name, Layers: n})
	}
	return out, nil
}

func (g *simGuest) Top(_ context.Context, node string) (string, error) {
	if node != deviceNode(leaf) {
		return "", qmp.ErrNoNode
	}
	return nodeName(leaf), nil
}

func (g *simGuest) Add(_ context.Context, options any) error {
	g.w.at("add")
	o := options.(map[string]any)
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	name := o["node-name"].(string)
	if _, there := g.layers[name]; there || o["backing"] != nil || o["file"] == nil {
		return fmt.Errorf("cannot add %v", o)
	}
	g.layers[name] = 0
	return nil
}

func (g *simGuest) Snapshot(_ context.Context, node, over string) error {
	g.w.at("switch")
	g.w.mu.Lock()
	below, there := g.layers[over]
	if g.top != node || !there || below != 0 {
		g.w.mu.Unlock()
		return fmt.Errorf("cannot put %s on %s, the guest is on %s", over, node, g.top)
	}
	g.top, g.layers[over] = over, g.layers[node]+1
	g.w.mu.Unlock()
	g.w.at("switched")
	return nil
}

// spm is what the SPM does.
func (g *simGuest) spm(_ context.Context, _, _, on, _ string) (string, error) {
	g.w.at("make")
	g.w.mu.Lock()
	if _, there := g.w.vols[overlay]; !there {
		v := g.w.vols[on]
		v.ID, v.Parent, v.Name, v.Lease.Name = overlay, on, "new", overlay
		g.w.vols[overlay] = v
		old := g.w.vols[on]
		old.Type = domain.Internal
		g.w.vols[on] = old
	}
	g.w.mu.Unlock()
	g.w.at("made")
	return overlay, nil
}

// spmOf is the SPM as a Snapshotter.
type spmOf struct {
	*simGuest
	refuses error
}

func (s spmOf) Snapshot(ctx context.Context, key, domainID, on, name string) (string, error) {
	if s.refuses != nil {
		return "", s.refuses
	}
	return s.spm(ctx, key, domainID, on, name)
}

// judge is the law of a guest that runs: what it writes is mapped for writing on its host, under an exclusive lease.
func (g *simGuest) judge(host string) error {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	for _, id := range []string{leaf, overlay} {
		if nodeName(id) != g.top {
			continue
		}
		for _, p := range g.w.procs {
			if l := g.w.leases[id]; p.volume == id && p.host == host && p.open && !p.readOnly && l != nil && l.holders[p.id] && !l.shared {
				return nil
			}
		}
		return fmt.Errorf("the guest writes %s, which is not mapped for writing under an exclusive lease", id)
	}
	return fmt.Errorf("the guest writes %s", g.top)
}

// begin gives an agent the guest and the SPM.
func (g *simGuest) begin(name, dir string, refuses error) *agent {
	g.w.guest = func(m *Manager) { m.ask, m.cfg.Snapshots = g.ask, spmOf{g, refuses} }
	return g.w.start(name, dir, nil)
}

var withQMP = Request{Domain: dom, Volume: leaf, QMP: QMP{Socket: "/nowhere/qmp"}}

// isNew judges the state after a snapshot.
func isNew(a *agent) error {
	var errs []error
	for _, r := range a.records() {
		want := Record{Volume: overlay, Users: []string{overlay}}
		switch {
		case r.Volume == overlay:
			want.QMP = withQMP.QMP
		case r.Volume == leaf || r.Volume == base:
			want.ReadOnly = true
		}
		if r.State != StateAttached || r.ReadOnly != want.ReadOnly || r.QMP != want.QMP || r.Snapshot != nil || !slices.Equal(r.Users, want.Users) {
			errs = append(errs, fmt.Errorf("%+v", r))
		}
	}
	if l := a.List(); len(l) != 1 || l[0].Volume != overlay || len(l[0].Chain) != 3 || l[0].Problem != "" {
		errs = append(errs, fmt.Errorf("listed: %+v", l))
	}
	return errors.Join(errs...)
}

func TestManager_snapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		g := newSimGuest(w)
		a := g.begin("h1", t.TempDir(), nil)
		defer a.kill()
		ask := SnapshotRequest{Domain: dom, Volume: leaf, Name: "new", Key: "k"}
		if _, err := a.Snapshot(t.Context(), ask); !errors.Is(err, ErrNotAttached) || !errors.Is(err, ErrRefused) {
			t.Errorf("not attached: %v", err)
		}
		if _, err := a.Attach(t.Context(), req(leaf)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Snapshot(t.Context(), ask); !errors.Is(err, ErrNoQMP) {
			t.Errorf("without QMP: %v", err)
		}
		if _, err := a.Attach(t.Context(), withQMP); err != nil {
			t.Fatal(err)
		}
		g.away = true
		if _, err := a.Snapshot(t.Context(), ask); !errors.Is(err, ErrRefused) || len(w.vols) != 3 {
			t.Errorf("while QEMU is away: %v", err)
		}
		g.away = false
		a.cfg.Snapshots = spmOf{g, ErrRefused}
		if _, err := a.Snapshot(t.Context(), ask); !errors.Is(err, ErrRefused) || a.List()[0].Snapshot != nil {
			t.Errorf("the SPM refuses: %v", err)
		}
		a.cfg.Snapshots = spmOf{g, nil}
		at, err := a.Snapshot(t.Context(), ask)
		if err != nil || at.Volume != overlay || len(at.Chain) != 3 {
			t.Fatalf("%+v, %v", at, err)
		}
		if err := errors.Join(isNew(a), g.judge("h1"), w.judge()); err != nil {
			t.Error(err)
		}
		if at, err := a.Snapshot(t.Context(), ask); err != nil || at.Volume != overlay { // the answer was lost
			t.Errorf("once more: %+v, %v", at, err)
		}
		if err := a.Detach(t.Context(), req(overlay)); err != nil {
			t.Error(err)
		}
		if p, l := w.left("h1"); p+l != 0 || len(a.records()) != 0 {
			t.Errorf("left: %d, %d, %v", p, l, a.records())
		}
	})
}

// snapshotCrash kills the agent at one step of a snapshot. The next one leaves the old state or the new one.
func snapshotCrash(t *testing.T, step int, plant func(*world)) (died bool, what string, err error) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		g := newSimGuest(w)
		a := g.begin("h1", dir, nil)
		if _, err := a.Attach(t.Context(), withQMP); err != nil {
			t.Fatal(err)
		}
		if plant != nil {
			plant(w)
		}
		w.begin(step)
		died = !a.try(func() { _, _ = a.Snapshot(t.Context(), SnapshotRequest{Domain: dom, Volume: leaf, Name: "new"}) })
		_, trace := w.steps()
		what = trace[len(trace)-1]
		w.begin(0)
		err = errors.Join(g.judge("h1"), w.judge())
		a.kill()
		err = errors.Join(err, g.judge("h1"), w.judge())
		a = g.begin("h1", dir, nil)
		defer func() { a.kill() }()
		time.Sleep(10 * time.Second)
		err = errors.Join(err, settled(w, a), g.judge("h1"), w.judge())
		if g.top == nodeName(overlay) {
			err = errors.Join(err, isNew(a))
		} else if len(w.vols) > 3 {
			err = errors.Join(err, errors.New("there is a new leaf, and the guest is on the old one"))
		}
		last := leaf
		if g.top == nodeName(overlay) {
			last = overlay
		}
		err = errors.Join(err, a.Detach(t.Context(), req(last)))
		if p, l := w.left("h1"); p+l != 0 || len(a.records()) != 0 {
			err = errors.Join(err, fmt.Errorf("left: %d, %d, %v", p, l, a.records()))
		}
	})
	return died, what, err
}

// TestManager_snapshotCrashes: the agent dies at every step of a snapshot, and the guest writes on.
func TestManager_snapshotCrashes(t *testing.T) {
	steps := 0
	for died := true; died; {
		steps++
		var what string
		var err error
		if died, what, err = snapshotCrash(t, steps, nil); err != nil {
			t.Errorf("died at step %d (%s): %v", steps, what, err)
		}
	}
	if steps < 12 {
		t.Errorf("only %d steps", steps)
	}
	t.Logf("%d steps", steps-1)
}

func TestManager_snapshotPlanted(t *testing.T) {
	for step := 1; ; step++ {
		died, what, err := snapshotCrash(t, step, func(w *world) { w.freeOnAgentEnd = true })
		if err != nil {
			t.Logf("caught at step %d (%s): %v", step, what, err)
			return
		}
		if !died {
			t.Fatal("leases that end with the agent were not caught")
		}
	}
}
