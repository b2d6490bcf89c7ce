package leases

import (
	"context"
	"fmt"
)

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
	if first.OwnerID != uint64(id) || first.OwnerGeneration != generation {
		return fmt.Errorf("freeing host %d: %w: generation %d on disk, the proof is for %d", id, ErrChanged, first.OwnerGeneration, generation)
	}
	if first.Timestamp == 0 {
		return nil
	}
	again, err := ls.readRecord(ctx, id)
	if err != nil {
		return err
	}
	if again != first {
		return fmt.Errorf("freeing host %d: %w: it renewed just now, so it is not dead", id, ErrChanged)
	}
	return ls.writeFree(ctx, id, first)
}

// writeFree writes host id's record with timestamp 0 and reads it back.
func (ls *Lockspace) writeFree(ctx context.Context, id int, l Leader) error {
	l.Timestamp = 0
	buf := make([]byte, ls.geo.SectorSize)
	l.Encode(buf)
	wctx, cancel, err := ls.usable(ctx)
	if err != nil {
		return err
	}
	defer cancel()
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
