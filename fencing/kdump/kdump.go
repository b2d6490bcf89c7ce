// Package kdump listens for the messages that a crashing host sends while its crash kernel saves the memory (fence_kdump_send).
//
// A message is one UDP datagram: a magic number and a version, in the byte order of the sender.
//
//	offset 0  4 bytes  0x1B302A40
//	offset 4  4 bytes  version, 1
//
// Anybody can send that with any address. So a message is a reason to wait before the power goes off, so that the dump is not cut
// short, and evidence for people. It proves nothing.
package kdump

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
)

// DefaultPort is fence_kdump_send's.
const DefaultPort = 7410

const (
	magic     = 0x1B302A40
	version1  = 1
	messageSz = 8
)

// maxHosts bounds how many addresses are watched.
const maxHosts = 1024

// message decodes a datagram: true for one of fence_kdump_send.
func message(b []byte) bool {
	if len(b) != messageSz {
		return false
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if order.Uint32(b) == magic && order.Uint32(b[4:]) == version1 {
			return true
		}
	}
	return false
}

// Sighting is what was heard from one address.
type Sighting struct {
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	Count int       `json:"count"`
}

// Listener hears messages of the addresses that it was told to watch.
type Listener struct {
	conn net.PacketConn

	mu      sync.Mutex // guards what follows
	watched map[netip.Addr]*Sighting
	news    chan struct{} // closed and replaced at every message
	ignored int
	dead    error // why nothing is heard any more
}

// Listen opens the port; Run serves it. address is like ":7410".
func Listen(ctx context.Context, address string) (*Listener, error) {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for kdump messages on %s (is another listener there?): %w", address, err)
	}
	return &Listener{conn: conn, watched: map[netip.Addr]*Sighting{}, news: make(chan struct{})}, nil
}

// Address is where it listens.
func (l *Listener) Address() net.Addr { return l.conn.LocalAddr() }

// Run listens until ctx ends, and closes the port. Its error says why nothing is heard any more.
func (l *Listener) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.Close() })
	defer func() {
		if stop() {
			_ = l.conn.Close()
		}
	}()
	buf := make([]byte, 64)
	for {
		n, from, err := l.conn.ReadFrom(buf)
		if ctx.Err() != nil {
			l.end(ctx.Err())
			return nil
		}
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			l.end(err)
			return fmt.Errorf("listening for kdump messages: %w", err)
		}
		if err == nil {
			l.heard(from, buf[:n])
		} // another error is about one datagram
	}
}

// end wakes those who wait, for nothing will come.
func (l *Listener) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = fmt.Errorf("the listener for kdump messages has ended: %w", err)
	l.wake()
}

// wake tells waiters that something changed; the caller holds mu.
func (l *Listener) wake() {
	close(l.news)
	l.news = make(chan struct{})
}

// heard notes one datagram.
func (l *Listener) heard(from net.Addr, b []byte) {
	udp, ok := from.(*net.UDPAddr)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.watched[udp.AddrPort().Addr().Unmap().WithZone("")]
	if s == nil || !message(b) {
		l.ignored++
		return
	}
	if s.Count == 0 {
		s.First = time.Now()
	}
	s.Last, s.Count = time.Now(), s.Count+1
	l.wake()
}

// Ignored counts datagrams of strangers, and those that are no messages.
func (l *Listener) Ignored() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ignored
}

// Watch begins to note messages of addresses, and forgets what was heard of them before.
func (l *Listener) Watch(addrs ...netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.watched)+len(addrs) > maxHosts {
		return fmt.Errorf("%d addresses are watched for kdump messages, more are not possible: %w", len(l.watched), fencing.ErrConfig)
	}
	for _, a := range addrs {
		l.watched[a.Unmap().WithZone("")] = &Sighting{}
	}
	return nil
}

// Forget ends Watch.
func (l *Listener) Forget(addrs ...netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range addrs {
		delete(l.watched, a.Unmap().WithZone(""))
	}
}

// Seen is what was heard of any of the addresses since Watch.
func (l *Listener) Seen(addrs ...netip.Addr) Sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen(addrs)
}

// seen is Seen; the caller holds mu.
func (l *Listener) seen(addrs []netip.Addr) Sighting {
	var all Sighting
	for _, a := range addrs {
		s := l.watched[a.Unmap().WithZone("")]
		if s == nil || s.Count == 0 {
			continue
		}
		if all.Count == 0 || s.First.Before(all.First) {
			all.First = s.First
		}
		if s.Last.After(all.Last) {
			all.Last = s.Last
		}
		all.Count += s.Count
	}
	return all
}

// Await waits up to start for a first message of any of the addresses, which must be watched. False without an error says
// that none came.
func (l *Listener) Await(ctx context.Context, start time.Duration, addrs ...netip.Addr) (Sighting, bool, error) {
	timer := time.NewTimer(start)
	defer timer.Stop()
	for {
		s, news, err := l.look(addrs)
		if err != nil || s.Count > 0 {
			return s, s.Count > 0, err
		}
		select {
		case <-news:
		case <-timer.C:
			return s, false, nil
		case <-ctx.Done():
			return s, false, ctx.Err()
		}
	}
}

// Finished waits until no message has come for quiet: the dump is over, or the host is gone. It ends after limit in any case,
// with false: somebody who sends for ever must not keep a host from being fenced.
func (l *Listener) Finished(ctx context.Context, quiet, limit time.Duration, addrs ...netip.Addr) (Sighting, bool, error) {
	end := time.Now().Add(limit)
	for {
		s, news, err := l.look(addrs)
		if err != nil {
			return s, false, err
		}
		now := time.Now()
		silent := s.Last.Add(quiet)
		switch {
		case s.Count == 0 || !now.Before(silent):
			return s, true, nil
		case !now.Before(end):
			return s, false, nil
		}
		timer := time.NewTimer(min(silent.Sub(now), end.Sub(now)))
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return s, false, ctx.Err()
		}
		timer.Stop()
	}
}

// look returns what was heard, and a channel that is closed when there is more. A listener that ended hears nothing: an error.
func (l *Listener) look(addrs []netip.Addr) (Sighting, chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen(addrs)
	if s.Count == 0 && l.dead != nil {
		return s, nil, l.dead
	}
	return s, l.news, nil
}
