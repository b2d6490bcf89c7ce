package watchdog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/internal/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fakeDevice counts down like a driver does.
type fakeDevice struct {
	clock clock.Clock
	takes int // the timeout that the driver takes whatever is asked; 0: any

	mu      sync.Mutex // guards all below: the Watchdog uses one goroutine, and the test looks on
	running bool
	seconds int
	last    time.Duration // the last pet
	opened  int
	stalled func() // runs before each pet lands: a sleeping process
}

func (d *fakeDevice) open(string) (device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		return nil, errors.New("busy")
	}
	d.running, d.last = true, d.clock.Boot()
	d.opened++
	return d, nil
}

func (d *fakeDevice) setTimeout(s int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seconds = s; d.takes != 0 {
		d.seconds = d.takes
	}
	d.last = d.clock.Boot()
	return d.seconds, nil
}

func (d *fakeDevice) keepAlive() error {
	d.mu.Lock()
	stalled := d.stalled
	d.mu.Unlock()
	if stalled != nil {
		stalled()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = d.clock.Boot()
	return nil
}

func (d *fakeDevice) release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = false
	return nil
}

func (d *fakeDevice) runs() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running
}

func (d *fakeDevice) lastPet() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// times is how often it was opened.
func (d *fakeDevice) times() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opened
}

// stall makes each pet from now on run f before it lands.
func (d *fakeDevice) stall(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled = f
}

// firesAt is the boot time of the reset if nothing happens any more; 0 never.
func (d *fakeDevice) firesAt() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running {
		return 0
	}
	return d.last + time.Duration(d.seconds)*time.Second
}

const (
	w60 = time.Minute
	n80 = 80 * time.Second // 8N
)

// bench is a watchdog on a fake device in a bubble.
func bench(t *testing.T, dev *fakeDevice) (*Watchdog, *Entry) {
	t.Helper()
	dev.clock = &clock.Virtual{Start: time.Now()}
	w := New(Config{Spec: Spec{Kind: Device, Path: "/dev/fake"}, Clock: dev.clock, Log: quiet(), openDevice: dev.open})
	p, err := w.Choose(context.Background(), w60)
	if err != nil || !p.Protected() || p.Fire != w60 {
		t.Fatalf("%+v, %v", p, err)
	}
	if dev.runs() {
		t.Fatal("the probe left the device running")
	}
	return w, w.Entry("space")
}

// resetViolation judges when the machine is reset after the last renewal of a lockspace that was good until expiry and
// whose users stay.
func resetViolation(fires, expiry time.Duration) string {
	switch {
	case fires == 0:
		return "never reset"
	case fires <= expiry:
		return "reset while the lease was good"
	case fires > expiry+w60:
		return "reset later than W after the expiry"
	}
	return ""
}

// usersStay runs a lockspace for a while, stops renewing, and says when the machine is reset.
func usersStay(t *testing.T, plant func(*Watchdog)) (fires, expiry time.Duration) {
	dev := &fakeDevice{}
	w, e := bench(t, dev)
	plant(w)
	for range 20 {
		expiry = dev.clock.Boot() + n80
		e.Renewed(expiry)
		if err := e.Use(context.Background(), expiry); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20500 * time.Millisecond)
	}
	time.Sleep(10 * time.Minute) // the keeper lives, its storage does not
	fires = dev.firesAt()
	e.Done()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	return fires, expiry
}

func TestDevice_usersStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fires, expiry := usersStay(t, func(*Watchdog) {})
		if v := resetViolation(fires, expiry); v != "" {
			t.Errorf("%s: fires %v, expiry %v", v, fires, expiry)
		}
		if fires < expiry+w60*5/6 {
			t.Errorf("fires %v after the expiry: the users' time is cut short", fires-expiry)
		}
	})
}

// petsAlways is a watchdog that does not look at the lease, petsNever one that forgets to pet.
type petsAlways struct{ *deviceBackend }

func (b petsAlways) pet([]*Entry) error { return b.dev.keepAlive() }

type petsNever struct{ *deviceBackend }

func (b petsNever) pet([]*Entry) error { return nil }

type neverArmed struct{ *deviceBackend }

func (neverArmed) arm(context.Context, *Entry) error { return nil }
func (neverArmed) pet([]*Entry) error                { return nil }

// The checker must catch each planted bug.
func TestDevice_plantedBugs(t *testing.T) {
	t.Parallel()
	for name, bug := range map[string]func(*deviceBackend) backend{
		"pets whatever the lease is": func(b *deviceBackend) backend { return petsAlways{b} },
		"never pets":                 func(b *deviceBackend) backend { return petsNever{b} },
		"does not open the device":   func(b *deviceBackend) backend { return neverArmed{b} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fires, expiry := usersStay(t, func(w *Watchdog) { w.backend = bug(w.backend.(*deviceBackend)) })
				if resetViolation(fires, expiry) == "" {
					t.Errorf("not noticed: fires %v, expiry %v", fires, expiry)
				}
			})
		})
	}
}

func TestDevice_usersGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := &fakeDevice{}
		w, e := bench(t, dev)
		use(t, e, dev.clock.Boot()+n80)
		time.Sleep(n80 + 30*time.Second) // users go before the device fires
		e.Done()
		if dev.runs() || dev.clock.Boot() > dev.lastPet()+w60 {
			t.Error("the device was not stopped in time")
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestDevice_keeperKilled: whatever was open stays so, and fires.
func TestDevice_keeperKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := &fakeDevice{}
		w, e := bench(t, dev)
		expiry := dev.clock.Boot() + n80
		use(t, e, expiry)
		time.Sleep(15 * time.Second)
		if err := w.Close(); err == nil { // the end of a keeper with users
			t.Error("closed with users without a word")
		}
		if fires := dev.firesAt(); fires == 0 || fires > expiry+w60 {
			t.Errorf("fires at %v", fires)
		}
	})
}

// TestDevice_idle: a lease taken and given back often opens the device once; without leases it is closed.
func TestDevice_idle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := &fakeDevice{}
		w, e := bench(t, dev)
		for range 1000 {
			use(t, e, dev.clock.Boot()+n80)
			e.Idle()
			time.Sleep(time.Millisecond)
		}
		if n := dev.times(); n > 2 { // one of them by the probe
			t.Errorf("opened %d times", n)
		}
		time.Sleep(11 * time.Second)
		if dev.runs() {
			t.Error("still running with no lease held")
		}
		use(t, e, dev.clock.Boot()+n80)
		if !dev.runs() {
			t.Error("not armed again")
		}
		e.Idle()
		if err := w.Close(); err != nil || dev.runs() {
			t.Errorf("close: %v, running %v", err, dev.runs())
		}
	})
}

// TestDevice_sleepyPet: a process that sleeps between its look at the lease and the pet does not gain the machine time.
func TestDevice_sleepyPet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := &fakeDevice{}
		w, e := bench(t, dev)
		expiry := dev.clock.Boot() + n80
		use(t, e, expiry)
		time.Sleep(75 * time.Second)
		dev.stall(func() { time.Sleep(40 * time.Second) })
		time.Sleep(5 * time.Minute)
		if v := resetViolation(dev.firesAt(), expiry); v != "" {
			t.Errorf("%s: fires %v, expiry %v", v, dev.firesAt(), expiry)
		}
		e.Done()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestDevice_expire: a record that was overwritten ends the petting at once.
func TestDevice_expire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := &fakeDevice{}
		w, e := bench(t, dev)
		use(t, e, dev.clock.Boot()+n80)
		time.Sleep(15 * time.Second)
		e.Expire()
		failed := dev.clock.Boot()
		time.Sleep(time.Minute)
		if fires := dev.firesAt(); fires > failed+w60 || fires < failed+w60*5/6 {
			t.Errorf("fires %v after the failure", fires-failed)
		}
		e.Done()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

func use(t *testing.T, e *Entry, expiry time.Duration) {
	t.Helper()
	e.Renewed(expiry)
	if err := e.Use(context.Background(), expiry); err != nil {
		t.Fatal(err)
	}
}

func TestChoose_refusals(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	clk := &clock.Virtual{Start: time.Now()}
	with := func(s string, dev *fakeDevice) *Watchdog {
		spec, err := ParseSpec(s)
		if err != nil {
			t.Fatal(err)
		}
		dev.clock = clk
		return New(Config{Spec: spec, Clock: clk, Log: quiet(), openDevice: dev.open})
	}
	wrong := &fakeDevice{takes: 30}
	if _, err := with("device:/dev/x", wrong).Choose(ctx, w60); !errors.Is(err, ErrUnusable) || wrong.runs() {
		t.Errorf("a driver with another time: %v, running %v", err, wrong.runs())
	}
	if _, err := with("device:/dev/x", &fakeDevice{}).Choose(ctx, 1500*time.Millisecond); !errors.Is(err, ErrUnusable) {
		t.Errorf("half a second: %v", err)
	}
	if _, err := with("wdmd:/nowhere/wdmd.sock", &fakeDevice{}).Choose(ctx, w60); !errors.Is(err, ErrUnusable) {
		t.Errorf("no wdmd: %v", err)
	}
	if p, err := with("none", &fakeDevice{}).Choose(ctx, w60); err != nil || p.Protected() || p.Reason == "" {
		t.Errorf("none: %+v, %v", p, err)
	}
	w := with("device:/dev/x", &fakeDevice{})
	if _, err := w.Choose(ctx, w60); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Choose(ctx, 10*time.Second); !errors.Is(err, ErrUnusable) {
		t.Errorf("a second pool with another time: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
