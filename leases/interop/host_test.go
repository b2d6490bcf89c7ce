package interop

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/leases"
)

// fast is the N of most tests: small, but with room for a busy machine.
const fast = 2 * time.Second

// profile is sanlock's W with the given N.
func profile(n time.Duration) leases.Profile {
	return leases.Profile{Name: "interop", IOTimeout: n, Watchdog: watchdog}
}

// host is one of our hosts, in the test's own process. Its renewals and its resource I/O go through devices of their
// own, so that the one can fail without the other.
type host struct {
	*leases.Lockspace
	t       testing.TB
	lun     *lun
	renewal *faulty.Device
	io      *faulty.Device
	stop    func() // ends the renewals
	lost    chan error
}

// hostConfig is the configuration of one of our hosts.
func hostConfig(l *lun, id int, n time.Duration) leases.LockspaceConfig {
	return leases.LockspaceConfig{Name: space, HostID: id, HostName: fmt.Sprintf("ours-%d", id), Profile: profile(n), Geometry: l.geo, Log: quiet()}
}

// joinHost joins and renews until the test ends, the host is stopped, or its lockspace is lost.
func joinHost(t testing.TB, l *lun, cfg leases.LockspaceConfig) *host {
	t.Helper()
	h, err := tryJoinHost(t, l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func tryJoinHost(t testing.TB, l *lun, cfg leases.LockspaceConfig) (*host, error) {
	t.Helper()
	h := &host{t: t, lun: l, renewal: faulty.New(l.open(t)), io: faulty.New(l.open(t)), lost: make(chan error, 1)}
	cfg.Device, cfg.Probe = h.renewal, h.io
	ls, err := leases.Join(within(t, 4*time.Minute), cfg)
	if err != nil {
		return nil, err
	}
	h.Lockspace = ls
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.lost <- ls.Run(ctx)
	}()
	h.stop = func() { cancel(); <-done }
	t.Cleanup(h.stop)
	return h, nil
}

// ours is host id with the N of most tests.
func ours(t testing.TB, l *lun, id int) *host {
	t.Helper()
	return joinHost(t, l, hostConfig(l, id, fast))
}

// spec is resource i as this host reaches it.
func (h *host) spec(i int) leases.ResourceSpec {
	return leases.ResourceSpec{Name: resName(i), Device: h.io, Offset: h.lun.offset(i)}
}

// acquire takes resource i, waiting for a dead owner if it must.
func (h *host) acquire(i int) *leases.Lease {
	h.t.Helper()
	lease, err := h.Acquire(within(h.t, 4*time.Minute), h.spec(i))
	if err != nil {
		h.t.Fatalf("host %d, resource %d: %v", h.HostID(), i, err)
	}
	return lease
}

// eventually acquires resource i, again and again while its owner counts as alive.
func (h *host) eventually(i int, limit time.Duration) (*leases.Lease, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		lease, err := h.Acquire(ctx, h.spec(i))
		if !errors.Is(err, leases.ErrHeld) || !sleep(ctx, 300*time.Millisecond) {
			return lease, err
		}
	}
}

// refused wants resource i to be held by owner.
func (h *host) refused(i, owner int) {
	h.t.Helper()
	spec := h.spec(i)
	spec.NoWait = true
	lease, err := h.Acquire(within(h.t, 10*time.Second), spec)
	var held *leases.HeldError
	if !errors.As(err, &held) || held.HostID != owner {
		h.t.Fatalf("host %d, resource %d: lease %v, %v; it is held by host %d", h.HostID(), i, lease, err, owner)
	}
}

// info reads resource i.
func (h *host) info(i int) leases.ResourceInfo {
	h.t.Helper()
	info, err := h.ReadResource(within(h.t, 10*time.Second), h.spec(i))
	if err != nil {
		h.t.Fatal(err)
	}
	return info
}

// release gives a lease back.
func (h *host) release(lease interface{ Release(context.Context) error }) {
	h.t.Helper()
	if err := lease.Release(within(h.t, 10*time.Second)); err != nil {
		h.t.Fatal(err)
	}
}

// leave gives the host id up.
func (h *host) leave() {
	h.t.Helper()
	if err := h.Leave(within(h.t, 10*time.Second)); err != nil {
		h.t.Fatal(err)
	}
	h.stop()
}

// crash is the host's sudden end: from now on nothing of it reaches the disk.
func (h *host) crash() {
	h.renewal.Inject(faulty.Fault{Err: faulty.EIO})
	h.io.Inject(faulty.Fault{Err: faulty.EIO})
	h.stop()
}
