package watchdog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/clock"
)

// Commands of wdmd.
const (
	cmdRegister      = 1
	cmdRefcountSet   = 2
	cmdRefcountClear = 3
	cmdTestLive      = 4
	cmdStatus        = 5
)

const (
	frameBytes  = 176
	nameBytes   = 128
	wdmdTimeout = time.Second // a local daemon that does not answer for this long is hung
)

// frame is one message of wdmd, either way.
type frame struct {
	magic, cmd, length, flags  uint32
	testInterval, fireTimeout  uint32
	keepalive, renewal, expire uint64
	name                       string
}

// encode gives the bytes that wdmd reads.
func (f *frame) encode() []byte {
	b := make([]byte, 0, frameBytes)
	for _, v := range []uint32{f.magic, f.cmd, f.length, f.flags, f.testInterval, f.fireTimeout} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	for _, v := range []uint64{f.keepalive, f.renewal, f.expire} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	b = append(b, f.name[:min(len(f.name), nameBytes-1)]...)
	return append(b, make([]byte, frameBytes-len(b))...)
}

// decode reads what wdmd sent.
func (f *frame) decode(b []byte) error {
	if len(b) != frameBytes {
		return fmt.Errorf("wdmd sent %d bytes, not %d", len(b), frameBytes)
	}
	for i, p := range []*uint32{&f.magic, &f.cmd, &f.length, &f.flags, &f.testInterval, &f.fireTimeout} {
		*p = binary.NativeEndian.Uint32(b[4*i:])
	}
	for i, p := range []*uint64{&f.keepalive, &f.renewal, &f.expire} {
		*p = binary.NativeEndian.Uint64(b[24+8*i:])
	}
	name, _, _ := bytes.Cut(b[48:], []byte{0})
	f.name = string(name)
	return nil
}

// wdmdConn is one client of wdmd: one lockspace. What it has registered stays in force when it goes away.
type wdmdConn struct{ net.Conn }

// dialWdmd connects.
func dialWdmd(ctx context.Context, path string) (*wdmdConn, error) {
	ctx, cancel := context.WithTimeout(ctx, wdmdTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connecting to wdmd: %w", err)
	}
	return &wdmdConn{conn}, nil
}

func (c *wdmdConn) send(f frame) error {
	_ = c.SetDeadline(time.Now().Add(wdmdTimeout))
	if _, err := c.Write(f.encode()); err != nil {
		return fmt.Errorf("telling wdmd: %w", err)
	}
	return nil
}

// status asks for wdmd's times.
func (c *wdmdConn) status() (frame, error) {
	if err := c.send(frame{cmd: cmdStatus}); err != nil {
		return frame{}, err
	}
	b := make([]byte, frameBytes)
	if _, err := io.ReadFull(c, b); err != nil {
		return frame{}, fmt.Errorf("reading wdmd's status: %w", err)
	}
	var f frame
	return f, f.decode(b)
}

// checkFire wants wdmd to fire after exactly the pool's time.
func (c *wdmdConn) checkFire(fire time.Duration) error {
	st, err := c.status()
	if err != nil {
		return err
	}
	if got := time.Duration(st.fireTimeout) * time.Second; got != fire {
		return fmt.Errorf("it fires after %v, and the pool needs %v: choose the profile compatible, or watchdog: device without wdmd", got, fire)
	}
	return nil
}

// wdmdBackend tells wdmd of expiries. wdmd pets the device.
type wdmdBackend struct {
	path  string
	fire  time.Duration
	clock clock.Clock
}

// probeWdmd asks wdmd for its time.
func (w *Watchdog) probeWdmd(ctx context.Context, path string, fire time.Duration) (backend, error) {
	c, err := dialWdmd(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	defer c.Close()
	if err := c.checkFire(fire); err != nil {
		return nil, fmt.Errorf("%w: wdmd at %s: %w", ErrUnusable, path, err)
	}
	return &wdmdBackend{path: path, fire: fire, clock: w.cfg.Clock}, nil
}

func (b *wdmdBackend) arm(ctx context.Context, e *Entry) error {
	c, err := dialWdmd(ctx, b.path)
	if err != nil {
		return err
	}
	err = errors.Join(c.send(frame{cmd: cmdRegister, name: e.Name}), c.send(frame{cmd: cmdRefcountSet}))
	if err == nil {
		err = c.checkFire(b.fire)
	}
	if err == nil {
		e.conn = c
		err = b.renewed(e)
	}
	if err != nil {
		e.conn = nil
		return errors.Join(err, c.end())
	}
	return nil
}

// end takes everything back that was registered, and closes.
func (c *wdmdConn) end() error {
	return errors.Join(c.send(frame{cmd: cmdTestLive}), c.send(frame{cmd: cmdRefcountClear}), c.Close())
}

// renewed sends the expiry, as a time of CLOCK_MONOTONIC: that one stands still in suspend, where ours does not, so the
// time that is left is what is passed on.
func (b *wdmdBackend) renewed(e *Entry) error {
	now, mono := b.clock.Boot(), monotonic()
	if e.expired.Load() {
		return nil // pet has told it, and that stays
	}
	left := time.Duration(e.expiry.Load()) - now
	expire := max(mono+left, time.Second)
	// Whole seconds, rounded down: never later than it is.
	return e.conn.send(frame{cmd: cmdTestLive, renewal: uint64(mono / time.Second), expire: uint64(expire / time.Second)})
}

// pet lets wdmd know of a lockspace that failed before its time: it counts as expired from now on.
func (b *wdmdBackend) pet(armed []*Entry) error {
	var errs []error
	for _, e := range armed {
		if e.good(b.clock.Boot()) {
			continue
		}
		now := uint64(monotonic() / time.Second)
		errs = append(errs, fmt.Errorf("%s: %w", e.Name, ErrExpired), e.conn.send(frame{cmd: cmdTestLive, renewal: now, expire: max(now, 1)}))
	}
	return errors.Join(errs...)
}

func (b *wdmdBackend) disarm(e *Entry, _ int) error {
	c := e.conn
	e.conn = nil
	if c == nil {
		return nil
	}
	return c.end()
}

// monotonic reads CLOCK_MONOTONIC.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot fail; 0 would count as expired
	}
	return time.Duration(ts.Nano())
}
