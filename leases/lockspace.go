package leases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// LockspaceConfig says which host id to take in which lockspace.
type LockspaceConfig struct {
	// Device holds the lockspace. Nobody else should send I/O through this Device: renewals share nothing.
	Device blockdev.Device
	// Probe is a second opening of Device for reads and writes that are not renewals; Device itself when nil.
	Probe blockdev.Device
	// Offset is where the area starts on Device, in bytes.
	Offset int64
	// Geometry is read from the disk when it is zero.
	Geometry Geometry
	// Name of the lockspace, at most 48 bytes.
	Name string
	// HostID is our slot, from 1 on.
	HostID int
	// HostName must be unique to this machine and the same after a restart: a host that finds its own name in the
	// record need not wait for its former self to die.
	HostName string
	Profile  Profile
	// Settle is how long after the end of a former process of ours its writes may still land; 0 for devices of the
	// local kernel. Our own former record is taken over only after it.
	Settle time.Duration
	// Clock is the machine's own when nil.
	Clock clock.Clock
	// Log is required.
	Log *slog.Logger
	// OnRenew is called after each renewal, in the renewal loop, with the boot time taken before the write. It must
	// not block or allocate.
	OnRenew func(start time.Duration)
	// OnEvent is called for each host event to us, once, and OnAlert when another host wants us to look at the requests
	// for what we hold. Both are called from the renewal loop: they must not block.
	OnEvent func(HostEvent)
	OnAlert func(fromHost int)
	// Rand draws the back-off times; the global source when nil.
	Rand *rand.Rand

	// Bugs are planted by tests. Always zero outside them.
	Bugs plant.Bugs
}

// Lockspace is a host id held by this host. Run renews it; Leave gives it up.
type Lockspace struct {
	cfg   LockspaceConfig
	geo   Geometry
	space Name
	host  Name
	alone bool // no host id is held: see Standalone

	renewing   chan struct{} // one renewal, look or leave at a time; guards area, sector, own and news
	area       []byte        // what a look read
	sector     []byte        // our record as it goes out
	own        Leader        // our record as last written
	news       []news        // what a look found for us, until it is delivered
	renewals   int
	generation uint64 // set by take, then constant
	lastOK     bool   // the last renewal succeeded
	unsettled  bool   // the last write has an unknown outcome
	doubtful   bool   // some write ever had an unknown outcome: only ownership can be checked

	mu        sync.Mutex // guards all below; never held over I/O
	lastRenew time.Duration
	lost      error
	left      bool
	hosts     []observed
	cover     int // hosts that every look reads
	leases    map[string]*resource
	asked     map[string]asked // requests of ours on disk
	out       notices
	buffers   sync.Pool // areas of resources
}

// Validate refuses what cannot be joined.
func (c *LockspaceConfig) Validate() error {
	if c.Device == nil || c.Log == nil {
		return errors.New("lockspace needs a device and a logger")
	}
	if _, err := MakeName(c.Name); err != nil {
		return fmt.Errorf("lockspace %w", err)
	}
	if _, err := MakeName(c.HostName); err != nil {
		return fmt.Errorf("host %w", err)
	}
	if c.HostID < 1 {
		return fmt.Errorf("%w: host id %d", ErrHostIDRange, c.HostID)
	}
	return c.Profile.Validate()
}

// minCover is how many hosts each look reads at least; all are read every lookAllEvery looks.
const (
	minCover     = 64
	lookAllEvery = 32
)

// newLockspace checks the configuration against the disk.
func newLockspace(ctx context.Context, cfg LockspaceConfig) (*Lockspace, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Probe == nil {
		cfg.Probe = cfg.Device
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	ls := &Lockspace{cfg: cfg, leases: map[string]*resource{}, asked: map[string]asked{},
		renewing: make(chan struct{}, 1), news: make([]news, 0, 16)}
	ls.space, _ = MakeName(cfg.Name)
	ls.host, _ = MakeName(cfg.HostName)
	if err := ls.findGeometry(ctx); err != nil {
		return nil, err
	}
	if cfg.HostID > ls.geo.MaxHosts() {
		return nil, fmt.Errorf("%w: host %d of %d", ErrHostIDRange, cfg.HostID, ls.geo.MaxHosts())
	}
	ls.hosts = make([]observed, ls.geo.MaxHosts())
	ls.cover = min(max(minCover, cfg.HostID), ls.geo.MaxHosts())
	ls.area = make([]byte, min(ls.geo.AlignSize, 128<<10))
	ls.sector = make([]byte, ls.geo.SectorSize)
	return ls, nil
}

// findGeometry reads the first record and takes sector and area size from it.
func (ls *Lockspace) findGeometry(ctx context.Context) error {
	c := &ls.cfg
	buf := make([]byte, 4096)
	if err := ls.read(ctx, buf, c.Offset); err != nil {
		return fmt.Errorf("reading lockspace %s: %w", c.Name, err)
	}
	var l Leader
	if err := l.Decode(buf); err != nil {
		return err
	}
	if err := l.verifyDelta(buf, ls.space); err != nil && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("lockspace %s at %d on %s: %w", c.Name, c.Offset, c.Device.Name(), err)
	}
	g, err := geometryOf(&l)
	if err != nil {
		return err
	}
	if c.Geometry != (Geometry{}) && c.Geometry != g {
		return fmt.Errorf("%w: configured %+v, the disk says %+v", ErrGeometry, c.Geometry, g)
	}
	ls.geo = g
	return checkRange(c.Device, c.Offset, g)
}

func (ls *Lockspace) now() time.Duration { return ls.cfg.Clock.Boot() }

// stamp is a boot time as it goes to disk: whole seconds, never the 0 that means free.
func stamp(t time.Duration) uint64 { return max(1, uint64(t/time.Second)) }

// read reads with the time limit N.
func (ls *Lockspace) read(ctx context.Context, p []byte, off int64) error {
	ctx, cancel := context.WithTimeout(ctx, ls.cfg.Profile.IOTimeout)
	defer cancel()
	return ls.cfg.Probe.ReadAt(ctx, p, off)
}

// readRecord reads and verifies the record of host id.
func (ls *Lockspace) readRecord(ctx context.Context, id int) (Leader, error) {
	var l Leader
	buf := make([]byte, ls.geo.SectorSize)
	if err := ls.read(ctx, buf, ls.recordOffset(id)); err != nil {
		return l, fmt.Errorf("reading host %d of lockspace %s: %w", id, ls.cfg.Name, err)
	}
	return l, ls.decodeRecord(&l, buf, id)
}

// decodeRecord decodes and verifies b as the record of host id.
func (ls *Lockspace) decodeRecord(l *Leader, b []byte, id int) error {
	if err := l.Decode(b); err != nil {
		return err
	}
	if err := l.verifyDelta(b, ls.space); err != nil {
		return fmt.Errorf("host %d of lockspace %s at %d on %s: %w", id, ls.cfg.Name, ls.recordOffset(id), ls.cfg.Device.Name(), err)
	}
	return nil
}

func (ls *Lockspace) recordOffset(id int) int64 { return ls.cfg.Offset + ls.geo.sector(id-1) }

// Name is the lockspace's name.
func (ls *Lockspace) Name() string { return ls.cfg.Name }

// HostID is our host id.
func (ls *Lockspace) HostID() int { return ls.cfg.HostID }

// Generation is how often our host id has been taken, this time included.
func (ls *Lockspace) Generation() uint64 { return ls.generation }

// Geometry is the lockspace's sector and area size.
func (ls *Lockspace) Geometry() Geometry { return ls.geo }

// Profile has the times we joined with.
func (ls *Lockspace) Profile() Profile { return ls.cfg.Profile }

// Expiry is the boot time at which the leases of this lockspace stop being usable if no renewal succeeds any more:
// the start of the last renewal write plus 8N, less a margin of half of N.
func (ls *Lockspace) Expiry() time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.expiry()
}

func (ls *Lockspace) expiry() time.Duration {
	return ls.lastRenew + ls.cfg.Profile.Expiry() - ls.cfg.Profile.Margin()
}

// Check returns nil when the lockspace is held for longer than need.
func (ls *Lockspace) Check(need time.Duration) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	switch {
	case ls.left:
		return fmt.Errorf("lockspace %s: %w: left", ls.cfg.Name, ErrLost)
	case ls.lost != nil:
		return ls.lost
	case ls.now()+need >= ls.expiry():
		return fmt.Errorf("lockspace %s: %w: not renewed for %v", ls.cfg.Name, ErrLost, ls.now()-ls.lastRenew)
	}
	return nil
}

// over says whether the lockspace was lost or left for good.
func (ls *Lockspace) over() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.lost != nil || ls.left
}

// usable gives a context that ends before the lease does, for one I/O of at most N. A write is checked once more in
// the moment before it is submitted.
func (ls *Lockspace) usable(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ls.Check(0); err != nil {
		return nil, nil, err
	}
	limit := min(ls.cfg.Profile.IOTimeout, ls.Expiry()-ls.now())
	ctx = blockdev.WithSubmitCheck(ctx, func() error { return ls.Check(0) })
	ctx, cancel := context.WithTimeout(ctx, limit)
	return ctx, cancel, nil
}

// fail makes the loss of the lockspace final.
func (ls *Lockspace) fail(err error) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.lost == nil {
		ls.lost = fmt.Errorf("lockspace %s: %w: %w", ls.cfg.Name, ErrLost, err)
	}
	return ls.lost
}
