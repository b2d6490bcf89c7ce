package ipmi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
)

// defaultWaits are how long each try waits for an answer: about ten seconds in all. Networks of BMCs lose packets, and BMCs
// that are busy answer late.
var defaultWaits = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}

// link is a UDP socket that is connected to the BMC: the kernel drops what comes from other addresses.
type link struct {
	conn net.Conn
	stop func() bool
}

// dial opens the socket; it is unblocked at ctx's end.
func dial(ctx context.Context, target string) (*link, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", target)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w: %w", target, fencing.ErrUnreachable, err)
	}
	l := &link{conn: conn}
	l.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return l, nil
}

func (l *link) close() {
	l.stop()
	_ = l.conn.Close()
}

// errIgnored is returned by accept for datagrams that are not the answer: they are dropped, and the wait goes on, because
// anybody can send them.
type errIgnored struct{ why error }

func (e errIgnored) Error() string { return e.why.Error() }
func (e errIgnored) Unwrap() error { return e.why }

// exchange sends what build makes, and again after each of waits, until accept is content or finally not.
func (l *link) exchange(ctx context.Context, waits []time.Duration, build func() ([]byte, error), accept func([]byte) error) error {
	var ignored int
	var why error
	for _, wait := range waits {
		b, err := build()
		if err != nil {
			return err
		}
		if _, err := l.conn.Write(b); err != nil {
			return l.failed(ctx, err)
		}
		n, reason, err := l.receive(ctx, time.Now().Add(wait), accept)
		if ignored += n; reason != nil {
			why = reason
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return l.failed(ctx, err)
		}
	}
	if ignored > 0 {
		return fmt.Errorf("no answer of %s that can be trusted, %d others were dropped, the last one because: %w: %w",
			l.conn.RemoteAddr(), ignored, why, fencing.ErrForged)
	}
	return fmt.Errorf("no answer of %s to %d requests: %w", l.conn.RemoteAddr(), len(waits), fencing.ErrUnreachable)
}

// receive reads until accept is content, or until the time is over (os.ErrDeadlineExceeded). It counts what it dropped.
func (l *link) receive(ctx context.Context, until time.Time, accept func([]byte) error) (ignored int, why, err error) {
	buf := make([]byte, maxPacket)
	for {
		if err := l.conn.SetReadDeadline(until); err != nil {
			return ignored, why, err
		}
		if err := ctx.Err(); err != nil { // after the deadline was set, so that ctx's end cannot come between
			return ignored, why, err
		}
		n, err := l.conn.Read(buf)
		if err != nil {
			return ignored, why, err
		}
		err = accept(buf[:n])
		var drop errIgnored
		if !errors.As(err, &drop) {
			return ignored, why, err
		}
		ignored, why = ignored+1, drop.why
	}
}

// failed names an error of the socket.
func (l *link) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for %s: %w", l.conn.RemoteAddr(), ctx.Err())
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("%s: %w: %w", l.conn.RemoteAddr(), fencing.ErrUnreachable, err)
	}
	return err
}
