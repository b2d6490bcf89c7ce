package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

func req(volume string) Request { return Request{Domain: dom, Volume: volume} }

// A volume is attached with its chain, once for writing, and elsewhere when it was detached.
func TestManager_attachDetach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.start("h1", t.TempDir(), nil), w.start("h2", t.TempDir(), nil)
		defer a.kill()
		defer b.kill()
		at, err := a.Attach(t.Context(), req(leaf))
		if err != nil || len(at.Chain) != 2 || at.Chain[0].Volume != leaf || at.Chain[0].ReadOnly || !at.Chain[1].ReadOnly || at.Problem != "" || at.Where.URI == "" {
			t.Fatalf("%+v, %v", at, err)
		}
		again, err := a.Attach(t.Context(), req(leaf))
		if err != nil || again.Where != at.Where {
			t.Errorf("again: %+v, %v", again, err)
		}
		if _, err := a.Attach(t.Context(), Request{Domain: dom, Volume: leaf, ReadOnly: true}); !errors.Is(err, ErrOtherwise) {
			t.Errorf("read-only too: %v", err)
		}
		var held *domain.VolumeHeldError
		if _, err := b.Attach(t.Context(), req(leaf)); !errors.As(err, &held) || held.Holder != "h1" {
			t.Errorf("on the other host: %v", err)
		}
		if p, l := w.left("h2"); p != 0 || l != 0 || len(b.List()) != 0 {
			t.Errorf("the refused attach left %d processes, %d leases", p, l)
		}
		// Another leaf on the same base shares it, on this host and on the other.
		if _, err := b.Attach(t.Context(), req(twin)); err != nil {
			t.Errorf("the twin: %v", err)
		}
		if err := a.Detach(t.Context(), req(leaf)); err != nil {
			t.Error(err)
		}
		if err := a.Detach(t.Context(), req(leaf)); !errors.Is(err, ErrNotAttached) {
			t.Errorf("twice: %v", err)
		}
		if p, l := w.left("h1"); p != 0 || l != 0 || len(a.List()) != 0 {
			t.Errorf("after detach: %d processes, %d leases, %v", p, l, a.List())
		}
		if _, err := b.Attach(t.Context(), req(leaf)); err != nil {
			t.Errorf("elsewhere afterwards: %v", err)
		}
		if c := b.Counts(); c.Attached != 2 || c.Mapped != 3 {
			t.Errorf("two leaves on one base: %+v", c)
		}
		if err := b.Detach(t.Context(), req(twin)); err != nil {
			t.Error(err)
		}
		if p, _ := w.left("h2"); p != 2 {
			t.Errorf("%d processes: the base is still needed", p)
		}
		w.check()
	})
}

func TestManager_refusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("h1", t.TempDir(), nil)
		defer a.kill()
		change := func(id string, f func(*Volume)) {
			v := w.vols[id]
			f(&v)
			w.vols[id] = v
		}
		if _, err := a.Attach(t.Context(), req(base)); !errors.Is(err, ErrChain) {
			t.Errorf("a base for writing: %v", err)
		}
		if _, err := a.Attach(t.Context(), req(dom)); !errors.Is(err, domain.ErrNotFound) {
			t.Errorf("no volume: %v", err)
		}
		change(base, func(v *Volume) { v.Legality = domain.Illegal })
		if _, err := a.Attach(t.Context(), req(leaf)); !errors.Is(err, ErrIllegal) {
			t.Errorf("illegal: %v", err)
		}
		change(base, func(v *Volume) { v.Legality, v.Parent = domain.Legal, leaf })
		if _, err := a.Attach(t.Context(), req(leaf)); !errors.Is(err, ErrChain) {
			t.Errorf("a ring: %v", err)
		}
		change(base, func(v *Volume) { v.Parent, v.Format = twin, domain.FormatRaw })
		if _, err := a.Attach(t.Context(), req(leaf)); !errors.Is(err, ErrChain) {
			t.Errorf("raw with a parent: %v", err)
		}
		change(base, func(v *Volume) { v.Parent, v.Format = "", domain.FormatQcow2 })
		if _, err := a.Attach(t.Context(), Request{Domain: dom, Volume: base, ReadOnly: true}); err != nil {
			t.Errorf("a base for reading: %v", err)
		}
		if err := a.Detach(t.Context(), req(leaf)); !errors.Is(err, ErrNotAttached) {
			t.Errorf("detach: %v", err)
		}
		if p, _ := w.left("h1"); p != 1 {
			t.Errorf("%d processes", p)
		}
		for _, p := range w.procs {
			p.st.Clients = 1
		}
		if err := a.Detach(t.Context(), req(base)); !errors.Is(err, ErrClients) {
			t.Errorf("detach under a client: %v", err)
		}
		if err := a.Detach(t.Context(), Request{Domain: dom, Volume: base, Force: true}); err != nil {
			t.Errorf("by force: %v", err)
		}
	})
}

// TestManager_restart: another agent finds what the last one left, and nothing changes for the clients.
func TestManager_restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		a := w.start("h1", dir, nil)
		if _, err := a.Attach(t.Context(), req(leaf)); err != nil {
			t.Fatal(err)
		}
		before := a.List()[0].Process
		a.kill()
		w.check()
		a = w.start("h1", dir, nil)
		l := a.List()
		if len(l) != 1 || l[0].Process != before || l[0].Problem != "" {
			t.Fatalf("after the restart: %+v", l)
		}
		// The export alone dies: it is made again under the next version of its lease.
		w.end(before.PID)
		time.Sleep(3 * time.Second)
		if l = a.List(); l[0].Process == before || l[0].Problem != "" || l[0].Version != 2 {
			t.Errorf("after the death of the export: %+v", l)
		}
		if err := a.Detach(t.Context(), req(leaf)); err != nil {
			t.Error(err)
		}
		a.kill()
		w.check()
		if p, le := w.left("h1"); p+le != 0 {
			t.Errorf("left: %d, %d", p, le)
		}
	})
}

// TestManager_takenMeanwhile: an export died with its agent, and another host had the volume before it was made again. The
// clients that would come back remember what is not there any more.
func TestManager_takenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		a, b := w.start("h1", dir, nil), w.start("h2", t.TempDir(), nil)
		defer b.kill()
		at, err := a.Attach(t.Context(), req(leaf))
		if err != nil {
			t.Fatal(err)
		}
		a.kill()
		w.end(at.Process.PID)
		time.Sleep(time.Second)
		if _, err := b.Attach(t.Context(), req(leaf)); err != nil {
			t.Fatal(err)
		}
		a = w.start("h1", dir, nil)
		defer func() { a.kill() }()
		if l := a.List(); len(l) != 1 || l[0].Problem == "" || l[0].State != StateAttached {
			t.Errorf("while the other host has it: %+v", l)
		}
		if err := b.Detach(t.Context(), req(leaf)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if l := a.List(); len(l) != 1 || l[0].State != StateBroken || !strings.Contains(l[0].Problem, ErrTakenMeanwhile.Error()) {
			t.Errorf("afterwards: %+v", l)
		}
		if err := a.Detach(t.Context(), req(leaf)); err != nil || len(a.List()) != 0 {
			t.Errorf("detach of what is broken: %v", err)
		}
		if p, l := w.left("h1"); p+l != 0 {
			t.Errorf("left: %d, %d", p, l)
		}
		w.check()
	})
}

// TestManager_endAll: what held leases through a keeper that is gone is ended, and made again.
func TestManager_endAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("h1", t.TempDir(), nil)
		defer a.kill()
		if _, err := a.Attach(t.Context(), req(leaf)); err != nil {
			t.Fatal(err)
		}
		before := w.pids()
		if err := a.EndAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, pid := range w.pids() { // new ones may be there already, made by who repairs
			if slices.Contains(before, pid) {
				t.Errorf("process %d is left", pid)
			}
		}
		time.Sleep(3 * time.Second)
		if p, l := w.left("h1"); p != 2 || l != 2 || a.List()[0].Problem != "" {
			t.Errorf("%d processes, %d leases, %+v", p, l, a.List())
		}
		w.check()
	})
}

// A host whose local disk takes no record attaches and detaches nothing, and goes on as before when it does again.
func TestManager_noRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		a := w.start("h1", dir, nil)
		defer a.kill()
		away := dir + ".away"
		if err := os.Rename(dir, away); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Attach(t.Context(), req(leaf)); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("attach: %v", err)
		}
		if p, l := w.left("h1"); p != 0 || l != 0 {
			t.Errorf("%d processes, %d leases after an attach that was not recorded", p, l)
		}
		back := func(from, to string) {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		back(away, dir)
		if _, err := a.Attach(t.Context(), req(leaf)); err != nil {
			t.Fatal(err)
		}
		back(dir, away)
		if err := a.Detach(t.Context(), req(leaf)); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("detach: %v", err)
		}
		if p, l := w.left("h1"); p != 2 || l != 2 {
			t.Errorf("%d processes, %d leases after a detach that was not recorded", p, l)
		}
		back(away, dir)
		if err := a.Detach(t.Context(), req(leaf)); err != nil {
			t.Error(err)
		}
		w.check()
	})
}

// What was attached before the machine was started is not any more: its processes are gone, and the guest may run elsewhere.
func TestManager_reboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		a, b := w.start("h1", dir, nil), w.start("h2", t.TempDir(), nil)
		defer b.kill()
		if _, err := a.Attach(t.Context(), req(leaf)); err != nil {
			t.Fatal(err)
		}
		a.kill()
		for _, r := range a.records() {
			w.end(r.Process.PID)
		}
		w.boot = "next"
		a = w.start("h1", dir, nil)
		defer func() { a.kill() }()
		if l := a.List(); len(l) != 0 {
			t.Errorf("after the boot: %+v", l)
		}
		if _, err := b.Attach(t.Context(), req(leaf)); err != nil {
			t.Errorf("elsewhere: %v", err)
		}
		w.check()
	})
}

// crashAt kills the agent at one step of an operation on a world, starts the next one, and judges.
func crashAt(t *testing.T, step int, detach bool, plant func(*world)) (died bool, what string, err error) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		if plant != nil {
			plant(w)
		}
		a, b := w.start("h1", dir, nil), w.start("h2", t.TempDir(), nil)
		defer b.kill()
		if detach {
			if _, err := a.Attach(t.Context(), req(leaf)); err != nil {
				t.Fatal(err)
			}
		}
		w.begin(step)
		died = !a.try(func() {
			if detach {
				_ = a.Detach(t.Context(), req(leaf))
			} else {
				_, _ = a.Attach(t.Context(), req(leaf))
			}
		})
		_, trace := w.steps()
		what = trace[len(trace)-1]
		w.begin(0)
		a.kill()
		// While the agent is away another host tries.
		_, berr := b.Attach(t.Context(), req(leaf))
		err = w.judge()
		if berr == nil {
			err = errors.Join(err, b.Detach(t.Context(), req(leaf)))
		}
		a = w.start("h1", dir, nil)
		defer func() { a.kill() }()
		time.Sleep(5 * time.Second)
		err = errors.Join(err, settled(w, a), w.judge())
		// And the volume can be had, here and there.
		if _, aerr := a.Attach(t.Context(), req(leaf)); aerr != nil && plant == nil && !(len(a.List()) == 1 && a.List()[0].State == StateBroken) {
			err = errors.Join(err, fmt.Errorf("attach afterwards: %w", aerr))
		}
		if derr := a.Detach(t.Context(), req(leaf)); derr != nil && plant == nil {
			err = errors.Join(err, fmt.Errorf("detach afterwards: %w", derr))
		}
		if _, berr := b.Attach(t.Context(), req(leaf)); berr != nil && plant == nil {
			err = errors.Join(err, fmt.Errorf("elsewhere afterwards: %w", berr))
		}
		err = errors.Join(err, w.judge())
	})
	return died, what, err
}

// settled compares what there is with what is recorded.
func settled(w *world, a *agent) error {
	p, l := w.left("h1")
	var recorded int
	for _, r := range a.records() {
		if r.State != StateAttached && r.State != StateBroken {
			return fmt.Errorf("volume %s is %s", r.Volume, r.State)
		}
		for _, u := range r.Users {
			if a.node(r.Domain, u) == nil {
				return fmt.Errorf("volume %s is kept for %s, which is not attached", r.Volume, u)
			}
		}
		if r.State == StateAttached {
			recorded++
		}
	}
	if p != recorded || l != recorded {
		return fmt.Errorf("%d processes and %d leases for %d records", p, l, recorded)
	}
	return nil
}

// TestManager_crashes: the agent dies at every step of an attach and of a detach. Nothing is leaked, nobody writes beside another,
// and the volume can be used again.
func TestManager_crashes(t *testing.T) {
	for name, detach := range map[string]bool{"attach": false, "detach": true} {
		t.Run(name, func(t *testing.T) {
			steps := 0
			for died := true; died; {
				steps++
				var what string
				var err error
				died, what, err = crashAt(t, steps, detach, nil)
				if err != nil {
					t.Errorf("died at step %d (%s): %v", steps, what, err)
				}
			}
			if steps < 8 {
				t.Errorf("only %d steps", steps)
			}
			t.Logf("%d steps", steps-1)
		})
	}
}

// TestManager_planted: mistakes that the checks above must catch.
func TestManager_planted(t *testing.T) {
	for name, plant := range map[string]func(*world){
		"leases end with the agent":  func(w *world) { w.freeOnAgentEnd = true },
		"the lease keeps nobody out": func(w *world) { w.unguarded = true },
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; ; step++ {
				died, what, err := crashAt(t, step, false, plant)
				if err != nil {
					t.Logf("caught at step %d (%s): %v", step, what, err)
					return
				}
				if !died {
					t.Fatal("was not caught")
				}
			}
		})
	}
}

func TestRecord_badInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := Record{Domain: dom, Volume: leaf, Users: []string{leaf}, State: StateAttached, Process: Process{PID: 5}}
	s := store{dir}
	if err := s.put(good); err != nil {
		t.Fatal(err)
	}
	if l, err := s.load(); err != nil || len(l) != 1 || l[0].Volume != leaf {
		t.Fatalf("%v, %v", l, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "half.new"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.load(); err != nil {
		t.Errorf("a file that was being written: %v", err)
	}
	for name, text := range map[string]string{
		"no JSON": "{", "empty": "", "other names": `{"domain":"../x","volume":"y","state":"attached","process":{"pid":5}}`,
		"no process": `{"domain":"` + dom + `","volume":"` + leaf + `","state":"attached"}`,
		"state":      `{"domain":"` + dom + `","volume":"` + leaf + `","state":"odd","process":{"pid":5}}`,
		"other file": `{"domain":"` + dom + `","volume":"` + twin + `","state":"attached","process":{"pid":5}}`,
	} {
		if err := os.WriteFile(s.path(good), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.load(); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(`{"domain":"` + dom + `","volume":"` + leaf + `","users":["` + leaf + `"],"state":"attached","process":{"pid":5,"start_time":7}}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err == nil && r.validate() != nil {
			t.Error("accepted and not valid")
		}
	})
}
