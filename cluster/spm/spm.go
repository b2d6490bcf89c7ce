// Package spm is a host's part in the role of storage pool manager: taking the lease, reading the disk, serving
// changes, mirroring them, and letting go in the right order.
//
// It works without a leader: who should start is the manager's decision, but whether this host may write is asked of
// the storage lease alone, before each request and by the guard before each write. DESIGN.md has the order of
// steps and what a crash leaves after each.
package spm

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

// States of the role.
const (
	StateNone     = "none"
	StateStarting = "starting"
	StateServing  = "serving"
	StateStopping = "stopping"
)

// LeaseInfo is the SPM lease as read from the disk.
type LeaseInfo struct {
	Held       bool   `json:"held"`
	Owner      int    `json:"owner"` // host id
	Generation uint64 `json:"generation"`
	Version    uint64 `json:"version"`
}

// Lease is the SPM lease of the master domain, held by this host's keeper.
type Lease interface {
	// Inspect reads it from the disk.
	Inspect(ctx context.Context) (LeaseInfo, error)
	// Acquire takes it and returns its version, which is the epoch. The version is at least min, and at least one more than before.
	Acquire(ctx context.Context, min uint64) (uint64, error)
	// Release frees it on disk. Releasing what is not held succeeds.
	Release(ctx context.Context) error
	// Guard is the right to write while the lease is held.
	Guard() blockdev.Guard
	// Done is closed when the keeper is gone, and with it the lease.
	Done() <-chan struct{}
}

// Writer changes a domain under a lease. *domain.Writer is one.
type Writer interface {
	Create(ctx context.Context, spec domain.VolumeSpec) (domain.Volume, error)
	Update(ctx context.Context, id string, e domain.VolumeEdit) (domain.Volume, error)
	Extend(ctx context.Context, id string, size int64) (domain.Volume, error)
	Remove(ctx context.Context, id string) (domain.VolumeRemoved, error)
	Snapshot(ctx context.Context, spec domain.VolumeSpec) (domain.Volume, error)
	AddLUN(ctx context.Context, lun domain.LUN) (domain.Info, error)
	Refresh(ctx context.Context) (domain.RecoveryReport, error)
	FinishDeletes(ctx context.Context) (domain.RecoveryReport, error)
	AnnounceMaster(ctx context.Context, next domain.NextMaster) error
	BecomeMaster(ctx context.Context, s domain.MasterSpec) error
	StepDown(ctx context.Context) error
	SetMembers(ctx context.Context, list []domain.MemberStatus) error
	ClearMailbox(ctx context.Context) error
	CopyMaster(ctx context.Context, from blockdev.Device) error
	Seq() uint64
	Close() error
}

// Domain is a domain as this host sees it. Disk makes one of a *domain.Domain.
type Domain interface {
	Info() domain.Info
	Volumes() []domain.Volume
	Volume(id string) (domain.Volume, bool)
	Master() domain.MasterState
	Keys() domain.Keys
	Device(volume string) (blockdev.Device, error)
	BecomeWriter(ctx context.Context, g blockdev.Guard) (Writer, domain.RecoveryReport, error)
}

// Disk adapts a *domain.Domain to Domain.
type Disk struct{ *domain.Domain }

// BecomeWriter finishes what a former SPM left and returns the only writer.
func (d Disk) BecomeWriter(ctx context.Context, g blockdev.Guard) (Writer, domain.RecoveryReport, error) {
	w, rep, err := d.Domain.BecomeWriter(ctx, g)
	if err != nil {
		return nil, rep, err
	}
	return w, rep, nil
}

// Description is what the mirror is told of a domain besides its volumes.
type Description struct {
	domain.Info
	Waiting int   // extensions that wait for space
	Needed  int64 // bytes that they need together
}

// same tells whether nothing has changed that the mirror should hear of.
func (d Description) same(o Description) bool {
	return d.Seqno == o.Seqno && d.Waiting == o.Waiting && d.Needed == o.Needed
}

// Difference is what a reconcile changed in the mirror, by volume id.
type Difference struct {
	Added, Removed []string
	Index          uint64
}

// Mirror is the copy in Raft. Every call may fail for want of a quorum and is then tried again with the same
// content; (epoch, seq) makes the repetition harmless. The index returned is the Raft index of the entry.
type Mirror interface {
	// Serving records that this host serves under epoch.
	Serving(ctx context.Context, epoch uint64, info domain.Info) (uint64, error)
	// Describe records what the domain says about itself: name, sizes, free space, and what waits for space.
	Describe(ctx context.Context, epoch, seq uint64, d Description) (uint64, error)
	// Put adds or replaces volumes; each carries its own epoch and seq.
	Put(ctx context.Context, domainID string, vols []domain.Volume) (uint64, error)
	// Remove takes volumes out.
	Remove(ctx context.Context, domainID string, gone []domain.VolumeRemoved) (uint64, error)
	// Replace makes the mirror of a domain equal to vols, with an event for each difference.
	Replace(ctx context.Context, domainID string, epoch, seq uint64, vols []domain.Volume) (Difference, error)
}

// Config is what a Role is made of.
type Config struct {
	// Host is this host's name, HostID its slot in the lockspace.
	Host   string
	HostID int
	// Pool is the pool's UUID; idempotency keys become volume ids within it. PoolName is written on a domain that becomes master.
	Pool, PoolName string
	// Lease, Open and Mirror are the lease, the master domain and the copy in Raft. Lease and Open are for a pool whose master never
	// changes; Masters takes their place.
	Lease   Lease
	Open    func(ctx context.Context) (Domain, error)
	Masters Masters
	Mirror  Mirror
	// Others are the domains to serve besides the master; nil: none.
	Others Others
	// Leases opens the external leases of a domain that is served; nil: none can be changed.
	Leases LeasesFunc
	// Mailbox gives the volumes of the master domain by which hosts ask through the storage; nil: they cannot.
	Mailbox MailboxFunc
	// Settings are those of a domain, by id; nil: the defaults.
	Settings func(domainID string) Settings
	// Refused says why a domain, by id or name, is not to be changed now; nil: any may be.
	Refused func(idOrName string) error
	// Report records an event; nil: the log only.
	Report func(ctx context.Context, e fsm.Event) error
	// Pending counts device calls of this host that have not come back, over all devices of the pool. The lease is
	// never given up while it is not 0. nil means that there are none.
	Pending func() int
	// PendingOn counts them for the devices of one domain; nil: Pending.
	PendingOn func(domainID string) int
	// Holder tells who is SPM as far as the mirror knows, for refusals. May be nil.
	Holder func() (host string, epoch uint64)

	// MirrorWait bounds how long a request waits for its mirror entry (2 s), ReconcileWait how long a start waits
	// for the reconcile (300 ms). Afterwards the entry follows when Raft takes it.
	MirrorWait, ReconcileWait time.Duration
	// DrainTimeout bounds how long a stop waits for requests in flight before it cancels them (3 s), FlushTimeout
	// how long it waits for the mirror (500 ms).
	DrainTimeout, FlushTimeout time.Duration
	// StepTimeout bounds each call to the lease and each opening or reading of the domain (15 s).
	StepTimeout time.Duration
	// ReleaseTimeout bounds the release of the lease (StepTimeout). A keeper that hangs does not release in longer.
	ReleaseTimeout time.Duration
	// GuardPoll is how often the guard is asked while nothing else asks (50 ms).
	GuardPoll time.Duration
	// DescribeAfter is how soon after a change the sizes of a domain go to the mirror, all changes of that time in one
	// entry (150 ms).
	DescribeAfter time.Duration
	// RetryDomain is how soon a domain besides the master is tried again (5 s), OpenWait how long a request waits for
	// one that is being opened (10 s).
	RetryDomain, OpenWait time.Duration
	// Need is what the lease must still be good for when a request is let in (100 ms). Each write is checked
	// again, against its own deadline, by the guard inside the writer.
	Need time.Duration

	Log *slog.Logger
	Now func() time.Time
}

// withDefaults fills in the times.
func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.MirrorWait, 2*time.Second)
	def(&c.ReconcileWait, 300*time.Millisecond)
	def(&c.DrainTimeout, 3*time.Second)
	def(&c.FlushTimeout, 500*time.Millisecond)
	def(&c.StepTimeout, 15*time.Second)
	def(&c.ReleaseTimeout, c.StepTimeout)
	def(&c.GuardPoll, 50*time.Millisecond)
	def(&c.DescribeAfter, 150*time.Millisecond)
	def(&c.RetryDomain, 5*time.Second)
	def(&c.OpenWait, 10*time.Second)
	def(&c.Need, 100*time.Millisecond)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Pending == nil {
		c.Pending = func() int { return 0 }
	}
	if c.PendingOn == nil {
		c.PendingOn = func(string) int { return c.Pending() }
	}
	if c.Report == nil {
		c.Report = func(context.Context, fsm.Event) error { return nil }
	}
	if c.Refused == nil {
		c.Refused = func(string) error { return nil }
	}
	if c.Settings == nil {
		c.Settings = func(string) Settings { return Settings{} }
	}
	if c.Holder == nil {
		c.Holder = func() (string, uint64) { return "", 0 }
	}
	return c
}

// validate refuses a Config that cannot work.
func (c Config) validate() error {
	if c.Host == "" || c.HostID < 1 || c.Mirror == nil || c.Masters == nil && (c.Lease == nil || c.Open == nil) {
		return errors.New("spm: Host, HostID, Mirror, and Masters or Lease and Open are required")
	}
	return nil
}
