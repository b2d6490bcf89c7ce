package keeper

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
)

// GuardSpec names a lease in the shared page, for a process that is handed the page's file with it.
type GuardSpec struct {
	Label      string `json:"label"` // for errors
	Resource   int    `json:"resource"`
	Lockspace  int    `json:"lockspace"`
	Version    uint64 `json:"version"`
	Generation uint64 `json:"generation"`
	Join       uint64 `json:"join"`
	State      uint64 `json:"state"`
	Name       uint64 `json:"name"`
}

// ErrPage says that a file is not the shared page of a keeper of this version.
var ErrPage = errors.New("not the shared page of a keeper: start the process anew")

// ShareGuard is what another process needs to have the guard of a lease that is held now: the specification, and the page's
// file, which the caller closes. That guard needs neither this client nor its process. It holds until the lease is released,
// lost, or not renewed any more.
func (c *Client) ShareGuard(lockspace, resource string) (GuardSpec, *os.File, error) {
	key := (&ResourceSpec{Lockspace: lockspace, Name: resource}).key()
	c.mu.Lock()
	g := c.grants[key]
	c.mu.Unlock()
	if g == nil || g.revoked.Load() {
		return GuardSpec{}, nil, fmt.Errorf("%s: %w: not held", key, blockdev.ErrLeaseLost)
	}
	f, err := c.SharePage()
	if err != nil {
		return GuardSpec{}, nil, err
	}
	return GuardSpec{Label: key, Resource: g.resource, Lockspace: g.lockspace, Version: g.version, Generation: g.generation,
		Join: g.join, State: g.state, Name: g.name}, f, nil
}

// SharePage opens the page's file once more, for a process that OpenGuard is called in. The caller closes it. It is for reading
// alone: a process that is handed it cannot renew its own lease.
func (c *Client) SharePage() (*os.File, error) {
	c.sharing.Lock()
	defer c.sharing.Unlock()
	select {
	case <-c.done:
		return nil, ErrGone
	default:
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", c.pageFile.Fd()))
	if err != nil {
		return nil, fmt.Errorf("the keeper's shared page: %w", err)
	}
	return f, nil
}

// OpenGuard is the guard of a lease in a process that was handed the page's file. It maps the file, which may be closed then.
func OpenGuard(f *os.File, spec GuardSpec) (blockdev.Guard, error) {
	if spec.Resource < 0 || spec.Resource >= resourceSlots || spec.Lockspace < 0 || spec.Lockspace >= lockspaceSlots {
		return nil, fmt.Errorf("%w: guard %+v", ErrInvalid, spec)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("the keeper's shared page: %w", err)
	}
	if info.Size() != pageBytes { // reading behind the end of the file would be SIGBUS
		return nil, fmt.Errorf("%w: %d bytes", ErrPage, info.Size())
	}
	p, err := mapPage(f, false)
	if err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &guard{page: p, clock: clock.System{}, name: spec.Label, g: &grant{resource: spec.Resource, lockspace: spec.Lockspace,
		version: spec.Version, generation: spec.Generation, join: spec.Join, state: spec.State, name: spec.Name}}, nil
}

// check refuses a page of another layout.
func (p *page) check() error {
	if m, v := atomic.LoadUint64(&p.words[0]), atomic.LoadUint64(&p.words[1]); m != pageMagic || v != pageVersion {
		return fmt.Errorf("%w: magic %#x, version %d", ErrPage, m, v)
	}
	return nil
}
