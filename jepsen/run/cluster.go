package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/lun"
	"github.com/holdfast-io/holdfast/jepsen/nemesis"
	"github.com/holdfast-io/holdfast/jepsen/pool"
)

// cluster is the pool and its LUN as the faults see them.
type cluster struct {
	pool   *pool.Pool
	server *lun.LUN
	bounds history.Bounds

	mu    sync.Mutex // guards paths
	paths map[string]*path
}

func newCluster(p *pool.Pool, l *lun.LUN, b history.Bounds) *cluster {
	return &cluster{pool: p, server: l, bounds: b, paths: map[string]*path{}}
}

var parts = map[nemesis.Part]pool.Part{nemesis.Agent: pool.Agent, nemesis.Keeper: pool.Keeper, nemesis.Both: pool.Both,
	nemesis.Writers: pool.Writers, nemesis.Machine: pool.Machine}

var traffic = map[nemesis.Traffic]pool.Traffic{nemesis.Everything: pool.All, nemesis.Gossip: pool.Gossip, nemesis.Raft: pool.Raft}

var spoils = map[nemesis.Spoil]pool.What{nemesis.RaftLog: pool.RaftLog, nemesis.RaftSnapshot: pool.Snapshot}

func (c *cluster) Hosts() []string                       { return c.pool.Hosts() }
func (c *cluster) Client(h string) *client.Client        { return c.pool.Client(h) }
func (c *cluster) Kill(h string, p nemesis.Part) error   { return c.pool.Kill(h, parts[p]) }
func (c *cluster) PowerOff(h string) error               { return c.pool.PowerOff(h) }
func (c *cluster) Pause(h string, p nemesis.Part) error  { return c.pool.Pause(h, parts[p]) }
func (c *cluster) Resume(h string, p nemesis.Part) error { return c.pool.Resume(h, parts[p]) }
func (c *cluster) Unplug(h string) error                 { return c.pool.Unplug(h) }
func (c *cluster) Plug(h string) error                   { return c.pool.Plug(h) }
func (c *cluster) MendNetwork() error                    { return c.pool.MendNetwork() }
func (c *cluster) UnplugStorage(h string) error          { return c.pool.UnplugStorage(h) }
func (c *cluster) PlugStorage(h string) error            { return c.pool.PlugStorage(h) }
func (c *cluster) FillDisk(h string) error               { return c.pool.FillDisk(h) }
func (c *cluster) FreeDisk(h string) error               { return c.pool.FreeDisk(h) }
func (c *cluster) FreezeDisk(h string) error             { return c.pool.FreezeDisk(h) }
func (c *cluster) ThawDisk(h string) error               { return c.pool.ThawDisk(h) }
func (c *cluster) SetSwitch(h, ails string) error        { return c.pool.SetSwitch(h, ails) }
func (c *cluster) LUN() nemesis.LUN                      { return server{c} }

func (c *cluster) Block(from, to string, t nemesis.Traffic) error {
	return c.pool.Block(from, to, traffic[t])
}

func (c *cluster) SetClock(h string, offset time.Duration, ppm int64) error {
	return c.pool.SetClock(h, offset, ppm)
}

func (c *cluster) Damage(h string, what nemesis.Spoil, seed int64) error {
	err := c.pool.Damage(h, spoils[what], seed)
	if errors.Is(err, pool.ErrNothing) {
		return errors.Join(nemesis.ErrNothingThere, err)
	}
	return err
}

func (c *cluster) Start(ctx context.Context, h string) error {
	err := c.pool.Start(ctx, h)
	if errors.Is(err, pool.ErrEnded) {
		return errors.Join(nemesis.ErrRefused, err)
	}
	return err
}

// Undamage puts the files back. A log that the host has run with since stays: it went on with what it had.
func (c *cluster) Undamage(h string) error {
	err := c.pool.Repair(h)
	if errors.Is(err, pool.ErrUsed) {
		return nil
	}
	return err
}

// server is the LUN's server.
type server struct{ c *cluster }

func (s server) Gone(gone bool) { s.c.server.Gone(gone) }

func (s server) Path(host string) nemesis.Path {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.paths[host] == nil {
		s.c.paths[host] = &path{Path: s.c.server.Path(host), bounds: s.c.bounds}
	}
	return s.c.paths[host]
}

// path is a host's way to the LUN. All leases rest on one promise of the storage: that nothing lands later than 8N + W after the last
// renewal of the host that sent it. So what has hung for too long is dropped.
type path struct {
	*lun.Path
	bounds history.Bounds

	mu    sync.Mutex // guards hung and until
	hung  time.Time
	until time.Duration // how long after that what hangs may land
}

// landable is how long something may hang and land nevertheless. The last renewal may be two and a half renewal periods, 5N, older than
// the moment at which requests began to hang: that leaves 3N of 8N, and W is for the watchdog.
const landable = 3

// stuckLandable is the same for single requests that hang while the others pass: the host goes on renewing, and if it dies at the moment
// at which they begin to hang, its last renewal is 2.5N older, and 9.5N is less than 8N + W of every profile.
const stuckLandable = 7

func (p *path) Hang() {
	p.hangs(landable)
	p.Path.Hang()
}

// hangs notes that requests hang from now on, and may land for n I/O timeouts.
func (p *path) hangs(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hung, p.until = time.Now(), time.Duration(n)*p.bounds.IOTimeout
}

func (p *path) Stick(n int) {
	p.hangs(stuckLandable)
	p.Path.Stick(n)
}

func (p *path) Release(land bool) {
	p.Path.Release(land && p.fresh())
}

// Heal ends all faults of the path.
func (p *path) Heal() {
	p.Path.Release(p.fresh())
	p.Path.Heal()
}

func (p *path) fresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.hung) < p.until
}
