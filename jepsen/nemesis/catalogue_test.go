package nemesis

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newRunning(p *fakePool, seed uint64) *Running {
	return &Running{Cluster: p, admin: fakeAdmin{p}, bounds: devBounds, lasts: 5 * time.Second, order: slices.Clone(p.hosts), rand: rand.New(rand.NewPCG(seed, 1))}
}

// Every kind does something, says whom it hit, touches nobody that it did not take, and leaves nothing behind.
func TestCatalogue_injectAndHeal(t *testing.T) {
	t.Parallel()
	for _, n := range Catalogue() {
		t.Run(n.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for seed := range uint64(40) {
					p := newFakePool([]int{minHosts, 5}[seed%2])
					if err := p.trial(t.Context(), n, seed); err != nil {
						t.Errorf("%d hosts, seed %d: %v", len(p.hosts), seed, err)
					}
				}
			})
		})
	}
}

// trial injects and heals a fault, and says what is not as it must be.
func (p *fakePool) trial(ctx context.Context, n Nemesis, seed uint64) error {
	r := newRunning(p, seed)
	before := len(p.calls)
	if err := r.inject(ctx, n); err != nil {
		return err
	}
	targets, detail := r.told()
	if len(targets) == 0 {
		return errors.New("it hit nobody")
	}
	if p.most == 0 && len(p.calls) == before {
		return errors.New("nothing happened")
	}
	if n.Reach == One {
		for _, w := range p.state() {
			if !strings.Contains(w, " h1") {
				return errors.New("it took h1 and hit: " + w)
			}
		}
	}
	if strings.Contains(detail, "%!") {
		return errors.New("bad detail: " + detail)
	}
	if err := errors.Join(r.Heal(ctx), r.Heal(ctx)); err != nil { // the second time does no harm
		return err
	}
	if left := p.state(); len(left) > 0 || !r.healed() {
		return errors.New("left behind: " + strings.Join(left, ", "))
	}
	return nil
}

// The trial above can fail.
func TestCatalogue_trialCatches(t *testing.T) {
	t.Parallel()
	for name, inject := range map[string]func(context.Context, *Running) error{
		"left behind":      func(_ context.Context, r *Running) error { r.hits("", r.host()); return r.Kill(r.host(), Agent) },
		"hit: dead h2":     func(_ context.Context, r *Running) error { r.hits("", r.host()); return r.Kill(r.order[1], Agent) },
		"hit nobody":       func(_ context.Context, r *Running) error { return r.Kill(r.host(), Agent) },
		"nothing happened": func(_ context.Context, r *Running) error { r.hits("", r.host()); return nil },
	} {
		err := newFakePool(3).trial(t.Context(), Nemesis{Name: "planted", inject: inject}, 1)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

// A fault of which any one step fails can still be healed.
func TestCatalogue_halfInjected(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, n := range Catalogue() {
		for _, call := range []string{"block", "damage log", "damage snapshot", "start", "off"} {
			synctest.Test(t, func(t *testing.T) {
				p := newFakePool(3)
				p.fail[call] = broken
				r := newRunning(p, 7)
				_ = r.inject(t.Context(), n) // not every kind makes the call
				delete(p.fail, call)
				if err := r.Heal(t.Context()); err != nil {
					t.Errorf("%s, %s fails: %v", n.Name, call, err)
				}
				if left := p.state(); len(left) > 0 {
					t.Errorf("%s, %s fails: left behind %v", n.Name, call, left)
				}
			})
		}
	}
}

func TestCatalogue_damageWithoutSnapshot(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		p := newFakePool(3)
		p.fail["damage snapshot"] = ErrNothingThere
		r := newRunning(p, seed)
		if err := r.inject(t.Context(), damage()[0]); err != nil || !slices.Contains(p.state(), "data h1 log") {
			t.Errorf("%v, %v", p.state(), err)
		}
	}
}

func TestCatalogue_names(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, n := range Catalogue() {
		least, most := n.Lasts(devBounds)
		if seen[n.Name] || n.Does == "" || len(n.Takes) == 0 || least > most || n.inject == nil {
			t.Errorf("%s is twice there, or lacks something", n.Name)
		}
		seen[n.Name] = true
	}
	least, most := pastDeath(devBounds)
	if _, short := belowExpiry(devBounds); short >= 8*time.Second || least <= 10*time.Second || most <= least {
		t.Errorf("stops of up to %s and from %s on; leases expire after 8 s and are dead after 10", short, least)
	}
}

func TestList_saysWhatIsNotHere(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := List(&b, HasNetwork); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != len(Catalogue()) {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if want := strings.HasPrefix(l, "path.") || strings.HasPrefix(l, "lun.") || strings.HasPrefix(l, "disk.") ||
			strings.HasPrefix(l, "clock.") || strings.HasPrefix(l, "power.") || strings.HasPrefix(l, "host.off-torn"); want != strings.Contains(l, "not here") {
			t.Error(l)
		}
	}
}

func TestAvailable_processesNeedNothing(t *testing.T) {
	t.Parallel()
	var names []string
	for _, n := range Available() {
		names = append(names, n.Name)
	}
	want := []string{"kill.agent", "kill.keeper", "kill.both", "host.off", "restart.all", "stop.short", "stop.long", "stop.agent", "stop.host", "spm.move", "raft.transfer", "member.rejoin", "data.flip"}
	if !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	if all := Available(HasClock, HasDisk, HasLUN, HasNetwork, HasPower); len(all) != len(Catalogue()) {
		t.Errorf("%d of %d with everything there is", len(all), len(Catalogue()))
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	got, err := Select(Catalogue(), []string{"net.", "kill.agent", "net.one"})
	if err != nil || len(got) != 7 {
		t.Errorf("%d kinds, %v", len(got), err)
	}
	if _, err := Select(Available(), []string{"net.one"}); err == nil || !strings.Contains(err.Error(), "net.one") {
		t.Errorf("a fault that this machine cannot inject: %v", err)
	}
}

func TestSetup_restores(t *testing.T) {
	t.Parallel()
	for _, n := range Available(HasClock, HasDisk, HasLUN, HasNetwork, HasPower) {
		if slices.Contains(n.Takes, OfRoles) {
			continue // by TestAdmin_rejoin
		}
		p := newFakePool(3)
		r := newRunning(p, 3)
		if err := r.inject(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if err := n.Setup(t.Context(), p); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		if left := p.state(); len(left) > 0 && n.Name != "data.flip" { // that one knows how to itself
			t.Errorf("%s: left behind %v", n.Name, left)
		}
	}
}
