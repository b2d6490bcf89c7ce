package domain

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// LockInit writes fresh lock areas. Package leases does it; this package only knows where they lie.
type LockInit interface {
	// InitLockspace writes an empty lockspace at byte off of dev.
	InitLockspace(ctx context.Context, dev blockdev.Device, off int64, name string) error
	// InitResource writes a free resource over its whole area at byte off of dev.
	InitResource(ctx context.Context, dev blockdev.Device, off int64, lockspace, resource string) error
	// FormatLeaseIndex writes an empty index of external leases into dev, the whole volume xleases.
	FormatLeaseIndex(ctx context.Context, dev blockdev.Device, lockspace string) error
}

// LeaseEncoder is what a LockInit may offer besides: the leading sectors of a fresh resource, all others being
// zero. With it the creation of a volume writes a kilobyte instead of a whole area where the rest is zero already.
type LeaseEncoder interface {
	EncodeResource(sectorSize int, lockspace, resource string) ([]byte, error)
}

// LeaseReader tells whose resource lies at a place. An area that was never written, or is damaged, is an error.
type LeaseReader interface {
	ReadResource(ctx context.Context, dev blockdev.Device, off int64) (lockspace, resource string, err error)
}

// LockspaceReader is what a LeaseReader may offer besides: what is wrong with each damaged record of a lockspace, by
// host id.
type LockspaceReader interface {
	CheckLockspace(ctx context.Context, dev blockdev.Device, off int64, name string) (map[int]error, error)
}

// LeaseIndexReader is what a LeaseReader may offer besides: what is wrong with the external leases in dev, the whole
// volume xleases.
type LeaseIndexReader interface {
	CheckLeaseIndex(ctx context.Context, dev blockdev.Device, lockspace string) ([]Finding, error)
}

// Options are the settings of an open domain. The zero value is usable for reading.
type Options struct {
	IOTimeout time.Duration    // deadline of a single device call; 0: 10 s
	Now       func() time.Time // creation times; nil: time.Now
	Log       *slog.Logger     // nil: no log
	Locks     LockInit         // needed for writing
	Leases    LeaseReader      // lets recovery and Check look at volume leases; may be nil
	Volumes   VolumeLeases     // takes volume leases around operations on volumes; nil: tools and tests, which are alone
	Tolerant  bool             // open in spite of a broken seal or bad keys, for Check; such a domain gets no writer
	// DeferWipes leaves deletes with wipe to Writer.FinishDeletes instead of making BecomeWriter wait for them.
	DeferWipes bool
}

// DefaultIOTimeout is the deadline of a device call where the options name none.
const DefaultIOTimeout = 10 * time.Second

func (o Options) withDefaults() Options {
	if o.IOTimeout <= 0 {
		o.IOTimeout = DefaultIOTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// CreateOptions describe a new domain.
type CreateOptions struct {
	UUID        string            // of the domain; also the name of the volume group
	Name        string            // at most 50 characters
	PoolUUID    string            // pool it belongs to; empty: none
	PoolName    string            // written when Master is set; at most 50 characters
	Master      bool              // first domain of the pool
	Type        string            // how the LUNs are reached: ISCSI or FCP; empty: FCP
	Devices     []blockdev.Device // the LUNs; the first gets the LVM metadata
	DeviceHints []string          // path of each, stored in the LVM metadata; its base name in the PV keys
	Force       string            // name of what may be destroyed, as InUseError.Name gave it
	Locks       LockInit
	Leases      LeaseReader
	Host        string // stored in the LVM metadata
	Now         func() time.Time
	IOTimeout   time.Duration
	Log         *slog.Logger
	// FormatMaster makes the file system of the master volume; nil: mke2fs. For tests on machines without it.
	FormatMaster func(ctx context.Context, path string) error
}

// Info is what a domain says about itself.
type Info struct {
	UUID       string
	Name       string
	Version    int
	Role       string // Regular, Master
	Class      string // Data, Iso, Backup
	Type       string // ISCSI, FCP
	PoolUUID   string // first pool; empty: none
	Size       int64  // bytes in extents, used or not
	Free       int64  // bytes in free extents
	ExtentSize int64
	SectorSize int
	Alignment  int64 // of lock areas
	Seqno      uint32
	Volumes    int // without those being removed or initialised
	FreeSlots  int
	LUNs       []string
}
