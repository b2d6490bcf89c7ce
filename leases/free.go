package leases

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// HostRecord is what a host's record in a lockspace says on disk.
type HostRecord struct {
	HostID     int    `json:"host_id"`
	Generation uint64 `json:"generation"`
	Timestamp  uint64 `json:"timestamp"` // 0: free
	Name       string `json:"name,omitempty"`
	// IOTimeout is the N of its writer; 0 when it says nothing.
	IOTimeout time.Duration `json:"io_timeout"`
}

// ReadHost reads the record of a host id from the disk, now.
func (ls *Lockspace) ReadHost(ctx context.Context, id int) (HostRecord, error) {
	if id < 1 || id > ls.geo.MaxHosts() {
		return HostRecord{}, fmt.Errorf("%w: host %d", ErrHostIDRange, id)
	}
	l, err := ls.readRecord(ctx, id)
	if err != nil {
		return HostRecord{}, err
	}
	return HostRecord{HostID: id, Generation: l.OwnerGeneration, Timestamp: l.Timestamp, Name: l.Resource.String(),
		IOTimeout: time.Duration(l.IOTimeout&0xff) * time.Second}, nil
}

// FreeRecord is FreeHost for a record that was seen before: it writes nothing (ErrChanged) when the record is not exactly
// as it was then. A record that was freed since is as good.
func (ls *Lockspace) FreeRecord(ctx context.Context, seen HostRecord) error {
	now, err := ls.ReadHost(ctx, seen.HostID)
	if err != nil {
		return err
	}
	if now.Generation == seen.Generation && now.Timestamp == 0 {
		return nil
	}
	if (now.Generation != seen.Generation || now.Timestamp != seen.Timestamp) && !ls.cfg.Bugs.FreeBlindly {
		return fmt.Errorf("freeing host %d: %w: generation %d at %d on disk, seen was generation %d at %d", seen.HostID, ErrChanged,
			now.Generation, now.Timestamp, seen.Generation, seen.Timestamp)
	}
	return ls.FreeHost(ctx, seen.HostID, seen.Generation)
}

// FreeHost marks the host id as left, on the caller's word that this generation of the host can write no more: its
// leases can then be taken at once. It reads the record twice and writes nothing (ErrChanged) when the generation is
// another or when the record moved between the two.
//
// A renewal of the dead host that is still on its way and lands later undoes this, which is safe: others then wait, or
// the host is freed again.
func (ls *Lockspace) FreeHost(ctx context.Context, id int, generation uint64) error {
	if id < 1 || id > ls.geo.MaxHosts() || id == ls.cfg.HostID {
		return fmt.Errorf("%w: cannot free host %d", ErrHostIDRange, id)
	}
	first, err := ls.readRecord(ctx, id)
	if err != nil {
		return err
	}
	if (first.OwnerID != uint64(id) || first.OwnerGeneration != generation) && !ls.cfg.Bugs.FreeBlindly {
		return fmt.Errorf("freeing host %d: %w: generation %d on disk, the proof is for %d", id, ErrChanged, first.OwnerGeneration, generation)
	}
	if first.Timestamp == 0 {
		return nil
	}
	readAt := ls.now()
	again, err := ls.readRecord(ctx, id)
	if err != nil {
		return err
	}
	if again != first {
		return fmt.Errorf("freeing host %d: %w: it renewed just now, so it is not dead", id, ErrChanged)
	}
	return ls.writeFree(ctx, id, first, readAt)
}

// writeFree writes host id's record with timestamp 0 and reads it back. A host that takes the id again looks 2N later
// whether its record stands, and uses it after that. So what is not submitted within N of our last look, because this
// process was stopped in between, must not be submitted at all.
func (ls *Lockspace) writeFree(ctx context.Context, id int, l Leader, readAt time.Duration) error {
	l.Timestamp = 0
	buf := make([]byte, ls.geo.SectorSize)
	l.Encode(buf)
	wctx, cancel, err := ls.usable(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	limit := readAt + ls.cfg.Profile.IOTimeout
	wctx = blockdev.WithSubmitCheck(wctx, func() error {
		if ls.now() >= limit {
			return fmt.Errorf("freeing host %d: %w: our last look is too old", id, ErrChanged)
		}
		return nil
	})
	if err := writeSync(wctx, ls.cfg.Probe, buf, ls.recordOffset(id)); err != nil {
		return fmt.Errorf("freeing host %d: %w", id, err)
	}
	now, err := ls.readRecord(ctx, id)
	if err != nil {
		return err
	}
	if now != l {
		return fmt.Errorf("freeing host %d: %w: somebody wrote it at the same time", id, ErrChanged)
	}
	ls.cfg.Log.Warn("freed host on proof of its death", "lockspace", ls.cfg.Name, "host_id", id, "generation", l.OwnerGeneration)
	return nil
}
