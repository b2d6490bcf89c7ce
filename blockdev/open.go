package blockdev

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Options are the choices of Open. The zero value is right for a LUN that is written to.
type Options struct {
	// ReadOnly opens the device for reading only; mutations fail with ErrReadOnly. Default false.
	ReadOnly bool
	// SectorSize is 512 or 4096; 0 asks the device. A regular file answers 512, or what direct I/O on its file system
	// needs. On a block device or an NBD export another value than the device's own is refused. On a regular file
	// it is taken as given: 4096 there is for tests, as no file promises atomic writes of that size.
	SectorSize int
	// MaxInFlight bounds the calls that are with the kernel or the server at once, abandoned ones included; more
	// wait. Each one may hold an operating system thread. Default 64.
	MaxInFlight int
	// MaxPending bounds the abandoned calls: with so many not back, every call fails with ErrPending at once, so that
	// a dead LUN does not eat the machine's threads and memory. Less than MaxInFlight. Default 16.
	MaxPending int
	// Exclusive opens a block device with O_EXCL: refused with ErrBusy when it is mounted, in use by device-mapper, or
	// opened so by somebody else on this machine. It says nothing about other machines. Ignored for the rest.
	Exclusive bool
	// Buffered goes through the page cache of a regular file instead of O_DIRECT. Danger: other machines do not see
	// such writes before Flush and reads may be stale, so only for files that one machine uses. Default false: a file
	// system without O_DIRECT is refused with ErrNoDirectIO.
	Buffered bool
	// IOTimeout is the pool's I/O timeout N. Calls bring their own deadlines; this one bounds what happens with no
	// call to wait for it: TCP data without an answer, and how long an abandoned write on a broken nbd connection
	// counts as Pending. Default 10 s.
	IOTimeout time.Duration
}

// withDefaults fills in what is zero and refuses what cannot be.
func (o Options) withDefaults() (Options, error) {
	if o.SectorSize != 0 && !validSector(o.SectorSize) {
		return o, fmt.Errorf("sector size %d: only 512 and 4096 exist", o.SectorSize)
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 64
	}
	if o.MaxPending == 0 {
		o.MaxPending = min(16, o.MaxInFlight-1)
	}
	if o.IOTimeout == 0 {
		o.IOTimeout = 10 * time.Second
	}
	if o.MaxInFlight < 2 || o.MaxPending < 1 || o.MaxPending >= o.MaxInFlight || o.IOTimeout < 0 {
		return o, fmt.Errorf("max in flight %d, max pending %d, I/O timeout %v: need 0 < pending < in flight",
			o.MaxInFlight, o.MaxPending, o.IOTimeout)
	}
	return o, nil
}

// Open opens a regular file or block device by path, or an NBD export by URI: nbd://HOST[:PORT]/EXPORT or
// nbd+unix:///EXPORT?socket=PATH. Opening has the same deadline rule as I/O, for a dead LUN hangs here too.
func Open(ctx context.Context, uri string, o Options) (Device, error) {
	if _, ok := ctx.Deadline(); !ok {
		return nil, &OpError{Op: opOpen, Device: uri, Err: ErrNoDeadline}
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, &OpError{Op: opOpen, Device: uri, Err: err}
	}
	d, err := openAny(ctx, uri, o)
	if err != nil {
		return nil, &OpError{Op: opOpen, Device: uri, Err: err}
	}
	return d, nil
}

func openAny(ctx context.Context, uri string, o Options) (Device, error) {
	scheme, _, isURI := strings.Cut(uri, "://")
	switch {
	case isURI && (scheme == "nbd" || scheme == "nbd+unix"):
		return openNBD(ctx, uri, o)
	case isURI:
		return nil, fmt.Errorf("%w: scheme %q; there are paths, nbd:// and nbd+unix://", ErrNotSupported, scheme)
	}
	return openLocal(ctx, uri, o)
}

// openLocal opens a path in a goroutine of its own, because open(2) of a dead device or mount may never return. If
// it does after all, what it opened is closed again.
func openLocal(ctx context.Context, path string, o Options) (Device, error) {
	return openAside(ctx, path, func() (*local, error) { return newLocal(path, o) })
}

// maxHungOpens is how many openings of one path may be left behind in the kernel. Each holds a thread, and a path that hangs for days
// is tried again all the time.
const maxHungOpens = 3

// hungOpens counts the openings that were given up and have not come back, by path.
var hungOpens = struct {
	mu sync.Mutex // guards n
	n  map[string]int
}{n: map[string]int{}}

// hungOpen adds to the count of a path and returns it.
func hungOpen(path string, add int) int {
	hungOpens.mu.Lock()
	defer hungOpens.mu.Unlock()
	n := hungOpens.n[path] + add
	if hungOpens.n[path] = n; n == 0 {
		delete(hungOpens.n, path)
	}
	return n
}

func openAside(ctx context.Context, path string, open func() (*local, error)) (Device, error) {
	type result struct {
		d   *local
		err error
	}
	if n := hungOpen(path, 0); n >= maxHungOpens {
		return nil, fmt.Errorf("%w: %d earlier openings of it have not come back, and no more are tried before one has", ErrPending, n)
	}
	ch := make(chan result)
	gaveUp := make(chan struct{})
	go func() {
		d, err := open()
		select {
		case ch <- result{d, err}:
		case <-gaveUp:
			hungOpen(path, -1)
			if d != nil {
				d.Close()
			}
		}
	}()
	select {
	case r := <-ch:
		if r.err != nil {
			return nil, r.err
		}
		return r.d, nil
	case <-ctx.Done():
		hungOpen(path, 1)
		close(gaveUp)
		return nil, fmt.Errorf("%w: %w", ErrTimeout, cause(ctx))
	}
}
