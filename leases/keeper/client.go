package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
)

// Client is the agent's side of its keeper. It is safe for concurrent use. Every call needs a context with a deadline.
type Client struct {
	log       *slog.Logger
	onLost    func(Loss)
	onRequest func(RequestSeen)
	onEvent   func(string, leases.HostEvent)
	notices   chan *response // for onRequest and onEvent
	page      *page
	clock     clock.Clock
	conn      net.Conn
	cmd       *exec.Cmd // nil: another agent started it
	pid       int
	watch     *watcher
	adopted   bool
	done      chan struct{} // closed when the process has ended, or was left to the next agent
	err       error         // how it ended; valid after done
	left      chan struct{} // closed when the process is left to the next agent
	leaving   sync.Once

	sharing  sync.Mutex // guards the closing of pageFile
	pageFile *os.File

	writing sync.Mutex // one frame at a time on conn

	mu      sync.Mutex // guards all below
	nextID  uint64
	waiting map[uint64]chan *response
	grants  map[string]*grant
	orphans map[uint64]*orphan
	loops   sync.WaitGroup
}

// cancelGrace is how long a cancelled call is waited for: the keeper answers as soon as the disk lets it.
const cancelGrace = time.Second

// Join takes a host id; see leases.Join for how long it lasts. It returns the generation.
func (c *Client) Join(ctx context.Context, spec LockspaceSpec) (uint64, error) {
	resp, err := c.call(ctx, &request{Method: methodJoin, Lockspace: &spec})
	if err != nil {
		return 0, fmt.Errorf("joining lockspace %s: %w", spec.Name, err)
	}
	return resp.Generation, nil
}

// Leave gives a lockspace up. Its leases must have been released.
func (c *Client) Leave(ctx context.Context, lockspace string) error {
	_, err := c.call(ctx, &request{Method: methodLeave, Name: lockspace})
	return err
}

// Acquire takes a resource and returns the version of the lease; see leases.Acquire. A lease that is held already is
// answered with its version.
func (c *Client) Acquire(ctx context.Context, spec ResourceSpec) (uint64, error) {
	files, err := spec.Holder.open()
	if err != nil {
		return 0, fmt.Errorf("acquiring %s: %w", spec.Name, err)
	}
	defer closeAll(files)
	if c.hasOrphan(spec.key()) {
		return 0, fmt.Errorf("acquiring %s: %w: an earlier acquire that nobody waited for is not over", spec.Name, leases.ErrBusy)
	}
	resp, err := c.call(ctx, &request{Method: methodAcquire, Resource: &spec, FDs: len(files), files: files})
	if err != nil {
		return 0, fmt.Errorf("acquiring %s: %w", spec.Name, err)
	}
	c.granted(&spec, resp)
	return resp.Version, nil
}

// granted remembers what the keeper holds for us. Guards of the same holding stay good.
func (c *Client) granted(spec *ResourceSpec, resp *response) {
	state := uint64(stateHeld)
	if spec.Shared {
		state = stateShared
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.grants[spec.key()]
	if g != nil && g.version == resp.Version && g.state == state && !g.revoked.Load() {
		return
	}
	if g != nil {
		g.revoked.Store(true)
	}
	c.grants[spec.key()] = &grant{resource: resp.ResourceSlot, lockspace: resp.LockspaceSlot, version: resp.Version,
		generation: resp.Generation, join: resp.LockspaceJoin, state: state, name: spec.nameSum()}
}

// Release gives a resource back. Its guards fail from this call on, whatever comes of it. All writes under the lease
// must have come back before.
func (c *Client) Release(ctx context.Context, spec ResourceSpec) error {
	c.revoke(spec.key())
	_, err := c.call(ctx, &request{Method: methodRelease, Resource: &spec})
	if err != nil {
		return fmt.Errorf("releasing %s: %w", spec.Name, err)
	}
	return nil
}

// revoke makes the guards of one lease fail.
func (c *Client) revoke(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.grants[key]; g != nil {
		g.revoked.Store(true)
		delete(c.grants, key)
	}
}

// Hosts lists the hosts of a lockspace as the keeper saw them at its last renewal.
func (c *Client) Hosts(ctx context.Context, lockspace string) ([]HostStatus, error) {
	resp, err := c.call(ctx, &request{Method: methodHosts, Name: lockspace})
	if err != nil {
		return nil, err
	}
	return resp.Hosts, nil
}

// Inspect reads the state of a resource.
func (c *Client) Inspect(ctx context.Context, spec ResourceSpec) (ResourceInfo, error) {
	resp, err := c.call(ctx, &request{Method: methodInspect, Resource: &spec})
	if err != nil {
		return ResourceInfo{}, fmt.Errorf("inspecting %s: %w", spec.Name, err)
	}
	if resp.Info == nil {
		return ResourceInfo{}, fmt.Errorf("inspecting %s: %w: no answer in the answer", spec.Name, errFrame)
	}
	return *resp.Info, nil
}

// FreeHost marks a host that is proven dead as gone; see leases.FreeHost.
func (c *Client) FreeHost(ctx context.Context, lockspace string, hostID int, generation uint64) error {
	_, err := c.call(ctx, &request{Method: methodFreeHost, Name: lockspace, HostID: hostID, Generation: generation})
	return err
}

// Guard is the right to write under a lease held now. It is bound to this holding: after a release or a loss it fails
// for good, and a later Acquire needs a new one. A resource that is not held gives a guard that always fails.
func (c *Client) Guard(lockspace, resource string) blockdev.Guard {
	spec := ResourceSpec{Lockspace: lockspace, Name: resource}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &guard{page: c.page, clock: c.clock, g: c.grants[spec.key()], name: spec.key()}
}

// Done is closed when the keeper has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// PID is the keeper's process id.
func (c *Client) PID() int { return c.pid }

// call sends a request and waits for the answer. When the context ends first, the keeper is told to give up, and the
// answer is still waited for a little, so that it is known what came of it.
func (c *Client) call(ctx context.Context, req *request) (*response, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil, blockdev.ErrNoDeadline
	}
	req.Timeout = time.Until(deadline)
	ch := c.register(req)
	defer c.unregister(req.ID)
	if err := c.send(req); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	select {
	case resp := <-ch:
		return result(resp)
	case <-c.done:
		return nil, ErrGone
	case <-ctx.Done():
	}
	_ = c.send(&request{ID: req.ID, Method: methodCancel})
	return c.lastChance(ctx, req, ch)
}

// lastChance waits for the answer to a cancelled request.
func (c *Client) lastChance(ctx context.Context, req *request, ch chan *response) (*response, error) {
	t := time.NewTimer(cancelGrace)
	defer t.Stop()
	select {
	case resp := <-ch:
		return result(resp)
	case <-c.done:
		return nil, ErrGone
	case <-t.C:
	}
	if req.Method == methodAcquire {
		c.mu.Lock()
		c.orphans[req.ID] = &orphan{spec: *req.Resource}
		c.mu.Unlock()
	}
	return nil, fmt.Errorf("keeper did not answer %s: %w: %w", req.Method, blockdev.ErrOutcomeUnknown, ctx.Err())
}

func result(resp *response) (*response, error) {
	if err := resp.Error.fromWire(); err != nil {
		return nil, err
	}
	return resp, nil
}

func (c *Client) register(req *request) chan *response {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	req.ID = c.nextID
	ch := make(chan *response, 1)
	c.waiting[req.ID] = ch
	return ch
}

func (c *Client) unregister(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *Client) send(req *request) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	return writeFrame(&fdWriter{c.conn, req.files}, req)
}

// receive hands answers to those who wait for them.
func (c *Client) receive() {
	defer close(c.notices)
	defer c.forgetOrphans()
	for {
		resp := &response{}
		if err := readFrame(c.conn, resp); err != nil {
			return
		}
		if resp.Lost != nil && c.onLost != nil {
			c.onLost(*resp.Lost)
			continue
		}
		if resp.Request != nil || resp.Event != nil {
			c.queue(resp)
			continue
		}
		c.mu.Lock()
		ch := c.waiting[resp.ID]
		back := c.adopt(resp)
		c.mu.Unlock()
		switch {
		case ch != nil:
			ch <- resp
		case back != nil:
			_ = c.send(&request{ID: resp.ID, Method: methodRelease, Timeout: time.Minute, Resource: back})
		}
	}
}

// revokeAll makes every guard fail.
func (c *Client) revokeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, g := range c.grants {
		g.revoked.Store(true)
		delete(c.grants, key)
	}
}

// Abandon makes all guards fail and leaves the keeper alone. It keeps the leases until this process has ended, and with it
// every write that is still on its way, and then frees them in order. The client is of no more use.
func (c *Client) Abandon() error {
	c.revokeAll()
	return c.conn.Close()
}

// Close releases all leases, leaves all lockspaces, and waits for the keeper to end. When the context ends first, the
// keeper is killed, and other hosts have to wait until they may take the leases.
func (c *Client) Close(ctx context.Context) error {
	c.revokeAll()
	_, err := c.call(ctx, &request{Method: methodShutdown})
	return c.awaitEnd(ctx, err)
}

// awaitEnd waits for the end of a keeper that was told to, and kills it when ctx ends first.
func (c *Client) awaitEnd(ctx context.Context, err error) error {
	if errors.Is(err, ErrGone) || errors.Is(err, leases.ErrLost) {
		err = nil
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.watch.kill()
		<-c.done
		err = errors.Join(err, fmt.Errorf("keeper killed: %w", ctx.Err()))
	}
	c.loops.Wait()
	return err
}
