package xlease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// Config says where the external leases of a domain are.
type Config struct {
	// Device is the whole volume xleases. To change anything it must be bound to the SPM lease (blockdev.NewGuarded).
	Device blockdev.Device
	// Lockspace is the domain's UUID.
	Lockspace string
	// Geometry is that of the domain's leases.
	Geometry leases.Geometry
	// NumHosts is the highest host id that may take new leases; 0: as many as there is room for.
	NumHosts int
	// IOTimeout bounds one device call; 0: 10 s.
	IOTimeout time.Duration
	// Now is time.Now when nil.
	Now func() time.Time
	// Log is for what does not fail an operation; nil: nowhere.
	Log *slog.Logger
}

// DefaultIOTimeout is the deadline of a device call where Config names none.
const DefaultIOTimeout = 10 * time.Second

// Volume is the external leases of one domain. Nothing is remembered between operations. Reading is safe for concurrent
// use; of Add, Remove, Format and Rebuild the caller lets one run at a time, under the SPM lease, and none while a write
// of an earlier one may still land (Device.Pending).
type Volume struct {
	cfg Config
	dev blockdev.Device
	geo leases.Geometry
}

// New checks that the volume has room for an index. It does no I/O.
func New(cfg Config) (*Volume, error) {
	if cfg.Device == nil {
		return nil, errors.New("external leases need a device")
	}
	if _, err := leases.MakeName(cfg.Lockspace); err != nil {
		return nil, fmt.Errorf("lockspace %w", err)
	}
	if err := cfg.Geometry.Validate(); err != nil {
		return nil, err
	}
	if cfg.Geometry.SectorSize < cfg.Device.SectorSize() {
		return nil, fmt.Errorf("%w: lease sectors of %d bytes on %s, whose sectors have %d", leases.ErrGeometry,
			cfg.Geometry.SectorSize, cfg.Device.Name(), cfg.Device.SectorSize())
	}
	if cfg.IOTimeout <= 0 {
		cfg.IOTimeout = DefaultIOTimeout
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	v := &Volume{cfg: cfg, dev: cfg.Device, geo: cfg.Geometry}
	if v.dev.Size() < v.indexOffset()+IndexSize {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrTooSmall, v.dev.Name(), v.dev.Size())
	}
	return v, nil
}

// Capacity is how many leases the volume has room for.
func (v *Volume) Capacity() int {
	return int(max(0, min(MaxRecords, v.dev.Size()/v.geo.AlignSize-resourceAreas)))
}

// Load reads the index and refuses one that must not be used.
func (v *Volume) Load(ctx context.Context) (*Index, error) {
	x, err := v.read(ctx)
	switch {
	case err != nil:
		return nil, err
	case x.Lockspace() != v.cfg.Lockspace:
		return nil, fmt.Errorf("%w: it is that of lockspace %q", ErrIndex, x.Lockspace())
	case x.Updating():
		return nil, ErrUpdating
	}
	return x, nil
}

// Lookup finds a lease.
func (v *Volume) Lookup(ctx context.Context, id string) (Record, error) {
	x, err := v.Load(ctx)
	if err != nil {
		return Record{}, err
	}
	return x.Lookup(id)
}

// read reads the whole index in one call. With an ErrIndex the index may come along.
func (v *Volume) read(ctx context.Context) (*Index, error) {
	b := make([]byte, IndexSize)
	if err := v.readAt(ctx, b, v.indexOffset()); err != nil {
		return nil, fmt.Errorf("reading the index of external leases: %w", err)
	}
	return decodeIndex(b, v.geo.AlignSize)
}

func (v *Volume) indexOffset() int64 { return indexArea * v.geo.AlignSize }

func (v *Volume) readAt(ctx context.Context, p []byte, off int64) error {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.IOTimeout)
	defer cancel()
	return v.dev.ReadAt(ctx, p, off)
}

// write writes to the index and makes it durable. The two have a deadline each.
func (v *Volume) write(ctx context.Context, p []byte, at int64) error {
	wctx, cancel := context.WithTimeout(ctx, v.cfg.IOTimeout)
	defer cancel()
	if err := v.dev.WriteAt(wctx, p, v.indexOffset()+at); err != nil {
		return err
	}
	fctx, cancel2 := context.WithTimeout(ctx, v.cfg.IOTimeout)
	defer cancel2()
	if err := v.dev.Flush(fctx); err != nil && !errors.Is(err, blockdev.ErrNotSupported) {
		return err
	}
	return nil
}

// writeRecord writes the one sector that holds record n, with the head if that is in the same sector.
func (v *Volume) writeRecord(ctx context.Context, x *Index, n int) error {
	at, sector := x.sectorOf(n, v.geo.SectorSize)
	return v.write(ctx, sector, at)
}

// writeHead writes the first sector.
func (v *Volume) writeHead(ctx context.Context, x *Index) error {
	return v.write(ctx, x.raw[:v.geo.SectorSize], 0)
}
