package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/internal/clock"
)

// backend is one kind of watchdog. Watchdog calls it with its lock held, one call at a time.
type backend interface {
	// arm begins to protect an entry: when it returns nil, the machine is reset unless the entry stays good.
	arm(ctx context.Context, e *Entry) error
	// renewed passes on that the entry's expiry has moved.
	renewed(e *Entry) error
	// pet keeps the machine alive for now if every armed entry is good.
	pet(armed []*Entry) error
	// disarm ends the protection of an entry.
	disarm(e *Entry, left int) error
}

// Config says what to use.
type Config struct {
	Spec Spec
	// Clock is the machine's own when nil.
	Clock clock.Clock
	// Log is required.
	Log *slog.Logger

	openDevice func(path string) (device, error) // the kernel's when nil
}

// Watchdog is the machine's one watchdog, for all lockspaces. It is safe for concurrent use. Renewals touch atomics only.
type Watchdog struct {
	cfg  Config
	news chan struct{} // an expiry has moved
	quit chan struct{}
	loop sync.WaitGroup

	mu         sync.Mutex // guards all below; held over calls to the watchdog, never by a renewal
	backend    backend    // nil before Choose, and with None
	protection Protection
	chosen     bool
	entries    []*Entry
	failing    bool // the last pet was refused or failed
}

// Entry is a lockspace's part.
type Entry struct {
	Name string // for people and for wdmd

	dog     *Watchdog
	expiry  atomic.Int64 // boot time in ns: start of the last good renewal plus 8N
	dirty   atomic.Bool  // the backend has not heard of the expiry
	expired atomic.Bool  // the lockspace failed: no use waiting for the expiry
	used    atomic.Bool  // somebody holds leases

	conn  *wdmdConn // of the backend wdmd
	armed bool      // guarded by Watchdog.mu
}

// New makes a watchdog that protects nothing yet.
func New(cfg Config) *Watchdog {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.openDevice == nil {
		cfg.openDevice = openKernelDevice
	}
	return &Watchdog{cfg: cfg, news: make(chan struct{}, 1), quit: make(chan struct{}),
		protection: Protection{Kind: None, Reason: "no pool joined yet"}}
}

// Choose finds a watchdog that resets the machine within fire. The first call decides; every other one must ask for the
// same time. With auto a machine without a usable watchdog is unprotected, which is no error; a watchdog that was named
// in the configuration must be usable.
func (w *Watchdog) Choose(ctx context.Context, fire time.Duration) (Protection, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chosen {
		if w.protection.Protected() && w.protection.Fire != fire {
			return w.protection, fmt.Errorf("%w: it is set to %v for another pool, not %v", ErrUnusable, w.protection.Fire, fire)
		}
		return w.protection, nil
	}
	b, p, err := w.choose(ctx, fire)
	if err != nil {
		return w.protection, err
	}
	w.backend, w.protection, w.chosen = b, p, true
	if b == nil {
		w.cfg.Log.Warn("this machine is unprotected: nothing resets it when its leases run out", "reason", p.Reason)
		return p, nil
	}
	w.cfg.Log.Info("watchdog", "kind", p.Kind, "path", p.Path, "fire", p.Fire)
	w.loop.Go(func() { w.run(petInterval(fire)) })
	return p, nil
}

// choose tries what the configuration allows.
func (w *Watchdog) choose(ctx context.Context, fire time.Duration) (backend, Protection, error) {
	switch s := w.cfg.Spec; s.Kind {
	case Device:
		b, err := w.probeDevice(s.Path, fire)
		return b, Protection{Kind: Device, Path: s.Path, Fire: fire}, err
	case Wdmd:
		b, err := w.probeWdmd(ctx, s.Path, fire)
		return b, Protection{Kind: Wdmd, Path: s.Path, Fire: fire}, err
	case Auto:
		b, p := w.auto(ctx, fire)
		return b, p, nil
	}
	return nil, Protection{Kind: None, Reason: "the configuration says watchdog: none"}, nil
}

// auto takes wdmd if it answers, for it owns the device then, else the device if there is one.
func (w *Watchdog) auto(ctx context.Context, fire time.Duration) (backend, Protection) {
	reason := "neither " + DefaultWdmd + " nor " + DefaultDevice + " is there"
	if _, err := os.Stat(DefaultWdmd); err == nil {
		b, err := w.probeWdmd(ctx, DefaultWdmd, fire)
		if err == nil {
			return b, Protection{Kind: Wdmd, Path: DefaultWdmd, Fire: fire}
		}
		reason = err.Error()
	}
	if _, err := os.Stat(DefaultDevice); err == nil {
		b, err := w.probeDevice(DefaultDevice, fire)
		if err == nil {
			return b, Protection{Kind: Device, Path: DefaultDevice, Fire: fire}
		}
		reason = err.Error()
	}
	return nil, Protection{Kind: None, Reason: reason}
}

// Protection is what Choose found.
func (w *Watchdog) Protection() Protection {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.protection
}

// Entry makes a lockspace known. It is not armed.
func (w *Watchdog) Entry(name string) *Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &Entry{Name: name, dog: w}
	w.entries = append(w.entries, e)
	return e
}

// petInterval is the pause between two pets, a sixth of W; wdmd has 10 s of 60 too.
func petInterval(fire time.Duration) time.Duration { return fire / 6 }

// run pets, passes renewals on, and disarms what nobody uses.
func (w *Watchdog) run(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-w.news:
			w.passOn()
		case <-tick.C:
			w.tick()
		}
	}
}

// passOn tells the backend of expiries that have moved.
func (w *Watchdog) passOn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if !e.armed || !e.dirty.Swap(false) {
			continue
		}
		if err := w.backend.renewed(e); err != nil {
			w.cfg.Log.Error("the watchdog does not hear of renewals: the machine will be reset", "lockspace", e.Name, "error", err)
		}
	}
}

// tick disarms what nobody has used since the last one, and pets for the rest. The delay spares a lease that is taken and
// given back often from opening the device each time.
func (w *Watchdog) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if e.armed && !e.used.Load() {
			w.disarmLocked(e)
		}
	}
	armed := w.armedLocked()
	if len(armed) == 0 {
		return
	}
	err := w.backend.pet(armed)
	if err != nil && !w.failing {
		w.cfg.Log.Error("the watchdog is not petted: the machine is reset unless that changes", "error", err)
	}
	if err == nil && w.failing {
		w.cfg.Log.Warn("the watchdog is petted again")
	}
	w.failing = err != nil
}

func (w *Watchdog) armedLocked() []*Entry {
	var armed []*Entry
	for _, e := range w.entries {
		if e.armed {
			armed = append(armed, e)
		}
	}
	return armed
}

// disarmLocked ends the protection of an entry; the caller holds mu.
func (w *Watchdog) disarmLocked(e *Entry) {
	e.armed = false
	if err := w.backend.disarm(e, len(w.armedLocked())); err != nil {
		w.cfg.Log.Error("the watchdog could not be disarmed: the machine may be reset", "lockspace", e.Name, "error", err)
	}
}

// Close disarms what nobody uses and ends the loop. What is still used stays in force: the machine is reset when it
// expires, for nobody renews it any more.
func (w *Watchdog) Close() error {
	close(w.quit)
	w.loop.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if e.armed && !e.used.Load() {
			w.disarmLocked(e)
		}
	}
	if left := w.armedLocked(); len(left) > 0 {
		return fmt.Errorf("closing the watchdog with %d lockspaces in use: the machine is going to be reset", len(left))
	}
	return nil
}

// ErrExpired says that an armed lockspace is not good any more.
var ErrExpired = errors.New("a lockspace in use has not been renewed in time")
