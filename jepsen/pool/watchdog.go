package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What we know of wdmd's protocol: frames of 176 bytes each way, in the machine's byte order, with the command at 4, the times of the
// daemon at 16 and 20, and the expiry, in seconds of CLOCK_MONOTONIC, at 40.
const (
	wdmdFrame         = 176
	wdmdRefcountSet   = 2
	wdmdRefcountClear = 3
	wdmdTestLive      = 4
	wdmdStatus        = 5
)

// rebootTime is how long a host that its watchdog has reset needs until its agent is started again.
const rebootTime = 3 * time.Second

// fireTimes are the watchdog's times of the profiles.
var fireTimes = map[string]time.Duration{"dev": 2 * time.Second, "fast": 10 * time.Second, "compatible": 60 * time.Second}

// Reset says that a host's watchdog has reset it.
type Reset struct {
	Host string    `json:"host"`
	At   time.Time `json:"at"`
}

// dog is one host's watchdog, behind the socket of a wdmd. What would reset a machine cuts the host's power and, a little later, starts
// it again.
type dog struct {
	h    *host
	fire time.Duration
	ln   net.Listener
	wake chan struct{} // one token: an expiry has changed

	mu      sync.Mutex // guards what follows
	clients map[net.Conn]*dogClient
	resets  []Reset
	conns   sync.WaitGroup
}

// dogClient is one lockspace. One that goes away without taking its expiry back stays in force.
type dogClient struct {
	held   bool
	expire time.Duration // of CLOCK_MONOTONIC; 0: none
	gone   bool          // its connection has ended
}

// newDog makes the socket.
func newDog(h *host) (*dog, error) {
	fire, ok := fireTimes[h.conf.Profile]
	if !ok {
		return nil, fmt.Errorf("the profile %q has no watchdog's time", h.conf.Profile)
	}
	ln, err := net.Listen("unix", h.dogSocket()) //nolint:noctx // binding does not wait
	if err != nil {
		return nil, fmt.Errorf("making the watchdog of %s: %w", h.name, err)
	}
	return &dog{h: h, fire: fire, ln: ln, wake: make(chan struct{}, 1), clients: map[net.Conn]*dogClient{}}, nil
}

func (h *host) dogSocket() string { return filepath.Join(h.dir, "wdmd.sock") }

// run serves clients and fires, until ctx ends.
func (d *dog) run(ctx context.Context) {
	d.conns.Go(d.accept)
	for d.await(ctx) {
		d.reset(ctx)
	}
	_ = d.ln.Close() // only once
	d.forget()
	d.conns.Wait()
}

func (d *dog) accept() {
	for {
		c, err := d.ln.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.clients[c] = &dogClient{}
		d.mu.Unlock()
		d.conns.Go(func() { d.serve(c) })
	}
}

// serve answers one client until it goes.
func (d *dog) serve(c net.Conn) {
	defer c.Close()
	b := make([]byte, wdmdFrame)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			break
		}
		if !d.handle(c, binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint64(b[40:])) {
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if k := d.clients[c]; k != nil {
		k.gone = true
		if !k.held || k.expire == 0 {
			delete(d.clients, c)
		}
	}
}

// handle does what one frame says. False: the client is gone.
func (d *dog) handle(c net.Conn, command uint32, expire uint64) bool {
	if command == wdmdStatus {
		b := make([]byte, wdmdFrame)
		binary.NativeEndian.PutUint32(b[4:], wdmdStatus)
		binary.NativeEndian.PutUint32(b[20:], uint32(d.fire/time.Second))
		_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // fails only on a closed connection
		_, err := c.Write(b)
		return err == nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.clients[c]
	if k == nil {
		return false // the host was reset since
	}
	switch command {
	case wdmdRefcountSet:
		k.held = true
	case wdmdRefcountClear:
		k.held = false
	case wdmdTestLive:
		k.expire = time.Duration(min(expire, 1<<32)) * time.Second
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return true
}

// due is when the watchdog fires, in time of CLOCK_MONOTONIC: after three quarters of its time, which leaves the rest for a harness that
// is late. Real ones fire between five sixths and the whole. Zero: never.
func (d *dog) due() (at time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.clients {
		if t := k.expire + d.fire*3/4; k.held && k.expire > 0 && (at == 0 || t < at) {
			at = t
		}
	}
	return at
}

// await waits until it is time to fire. False: ctx ended.
func (d *dog) await(ctx context.Context) bool {
	for {
		at := d.due()
		left := time.Hour
		if at > 0 {
			left = at - monotonic()
		}
		if left <= 0 {
			return ctx.Err() == nil
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-d.wake:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return false
		}
	}
}

// reset is what happens to the machine: the power goes at once, whatever else is being done to the host, and comes back later.
func (d *dog) reset(ctx context.Context) {
	d.h.log.Warn("the watchdog resets the host")
	d.mu.Lock()
	d.resets = append(d.resets, Reset{Host: d.h.name, At: time.Now()})
	d.mu.Unlock()
	d.h.setWant(false)
	err := d.h.killAll(d.h.lose)
	d.forget()
	err = errors.Join(err, d.h.p.PowerOff(d.h.name))
	t := time.NewTimer(rebootTime)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	if _, serr := d.h.powerOn(); err != nil || serr != nil {
		d.h.log.Error("the reset of the host went wrong", "error", errors.Join(err, serr))
	}
}

// forget lets go of all clients: a machine that starts knows none.
func (d *dog) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.clients {
		c.Close()
	}
	clear(d.clients)
}

// Resets are all that the hosts' watchdogs have done, in the order of hosts and of time.
func (p *Pool) Resets() (all []Reset) {
	for _, h := range p.hosts {
		if h.dog == nil {
			continue
		}
		h.dog.mu.Lock()
		all = append(all, h.dog.resets...)
		h.dog.mu.Unlock()
	}
	return all
}

// AwaitDogs waits until no watchdog is left to fire for a keeper that has died: its machine is reset later, however well it is now.
func (p *Pool) AwaitDogs(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for slices.ContainsFunc(p.hosts, func(h *host) bool { return h.dog != nil && h.dog.orphaned() }) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for watchdogs of dead keepers: %w", ctx.Err())
		}
	}
	return nil
}

// orphaned says that the watchdog will fire: somebody who had an expiry went away without taking it back.
func (d *dog) orphaned() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.clients {
		if k.gone {
			return true
		}
	}
	return false
}

// monotonic reads CLOCK_MONOTONIC.
func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail
	return time.Duration(ts.Nano())
}
