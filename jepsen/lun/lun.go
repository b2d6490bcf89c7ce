// Package lun is the LUN of a failure injection run: an NBD server over one sparse file that all hosts share. Each host has
// a path of its own to it, on which faults are injected, and every mutation is recorded in the order in which it landed.
//
// What the server promises, and to whom:
//
//   - To the hosts: an array with one cache that all paths see. A write that was answered is read by everybody. A flush on
//     one path covers what was answered on any, which is what NBD's multi-conn flag says. Sectors of 512 bytes are atomic.
//   - To the checkers: overlapping mutations land and are recorded as one step, so the entries of a log, put onto the
//     file's first contents in their order, give its contents now. Each request that came in whole has exactly one entry, also
//     when it never landed; only requests of one host wait for each other.
//   - To the nemeses: when Hang, Cut, Gone or Close has returned, nothing of the path lands any more. A request that hangs
//     outlives its connection, as it does in a real array: it may land long after its sender is dead.
//
// The file is not synced: a flush is an order among requests, and power loss is played by Path.Drop.
package lun

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// MaxSize is the size of the largest LUN.
const MaxSize = 64 << 30

// Sector is the size of what lands whole or not at all.
const Sector = 512

// ExportName is the LUN's name in an nbd address; the empty name means it too.
const ExportName = "lun"

// LUN is the server. It is safe for concurrent use.
type LUN struct {
	size    int64
	now     func() time.Duration
	disk    disk
	closing chan struct{}
	running sync.WaitGroup // listeners, connections, late requests and late replies

	mu     sync.Mutex // guards all below
	paths  map[string]*Path
	seed   uint64
	gone   bool
	closed bool
	err    error // the first thing that went wrong here, which no nemesis did
}

// New serves a file, which is made when it is not there. The log stays the caller's, to be closed after Close.
// now is the time since the run began.
func New(path string, size int64, log *history.Log[history.Entry], now func() time.Duration) (*LUN, error) {
	if size < Sector || size > MaxSize || size%Sector != 0 {
		return nil, fmt.Errorf("a LUN of %d bytes: choose a multiple of %d up to %d", size, Sector, int64(MaxSize))
	}
	f, err := openFile(path, size)
	if err != nil {
		return nil, fmt.Errorf("opening the LUN's file: %w", err)
	}
	l := &LUN{size: size, now: now, closing: make(chan struct{}), paths: map[string]*Path{}}
	l.disk = disk{f: f, now: l.clock, log: log, failed: l.fail}
	return l, nil
}

func openFile(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() == 0 {
		err = f.Truncate(size)
	} else if err == nil && st.Size() != size {
		err = fmt.Errorf("%s has %d bytes, not %d: remove it or choose another", path, st.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// clock is now, but never 0, which means never.
func (l *LUN) clock() time.Duration { return max(l.now(), 1) }

// Seed decides the faults' dice of the paths that are attached later.
func (l *LUN) Seed(seed uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seed = seed
}

// Attach serves host's connections from ln, which is the LUN's from now on. A host may have several listeners; they share
// its path.
func (l *LUN) Attach(host string, ln net.Listener) *Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.paths[host]
	if p == nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(host)) // a hash cannot fail
		p = &Path{l: l, host: host, gone: l.gone, cut: l.closed, conns: map[*conn]struct{}{}, dice: rand.New(rand.NewPCG(l.seed, h.Sum64()))}
		l.paths[host] = p
	}
	if l.closed {
		_ = ln.Close() // nobody is left to say it to
		return p
	}
	l.running.Go(func() { p.accept(ln) })
	l.running.Go(func() {
		<-l.closing
		_ = ln.Close() // ends accept
	})
	return p
}

// Path is the path of a host; nil when nothing was attached for it.
func (l *LUN) Path(host string) *Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paths[host]
}

func (l *LUN) all() []*Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ps []*Path
	for _, p := range l.paths {
		ps = append(ps, p)
	}
	return ps
}

// Gone takes the LUN away from all hosts, or brings it back. What hangs still hangs.
func (l *LUN) Gone(gone bool) {
	l.mu.Lock()
	l.gone = gone
	l.mu.Unlock()
	for _, p := range l.all() {
		p.setGone(gone)
	}
}

// Heal ends every fault of every path.
func (l *LUN) Heal() {
	l.Gone(false)
	for _, p := range l.all() {
		p.Heal()
	}
}

// fail keeps the first error that no nemesis made.
func (l *LUN) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// Close ends all connections, drops what hangs, and waits for all. No fault may be injected or healed meanwhile. It tells of what went wrong in the server itself; such
// a run is worth nothing.
func (l *LUN) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	for _, p := range l.all() {
		p.end()
	}
	close(l.closing)
	l.running.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.err, l.disk.f.Close()); err != nil {
		return fmt.Errorf("the LUN's server failed, so its record cannot be trusted; run again: %w", err)
	}
	return nil
}
