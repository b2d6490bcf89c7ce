package leases

import (
	"context"
	"fmt"
)

// raise gives a lease that was just won the version that was asked for, if that is later: the leader is written once more. While
// we own the lease nobody else writes the leader, but for a host that takes part in our ballot and commits us late, with the
// version that was decided. So with any trace of such a host the lease is not raised; to take it again has another outcome.
func (r *resource) raise(ctx context.Context) error {
	if r.leader.Lver >= r.spec.MinVersion {
		return nil
	}
	if err := r.uncontested(ctx); err != nil {
		return fmt.Errorf("raising resource %s from version %d to %d: %w", r.spec.Name, r.leader.Lver, r.spec.MinVersion, err)
	}
	l := r.leader
	l.Lver = r.spec.MinVersion
	l.WriteID, l.WriteGeneration, l.WriteTimestamp = uint64(r.ls.cfg.HostID), r.ls.generation, stamp(r.ls.now())
	if err := r.writeLeader(ctx, &l); err != nil {
		return fmt.Errorf("raising resource %s: %w", r.spec.Name, err)
	}
	// The release will say of this version that it is over. On disk our block keeps the old one until then, which concerns nobody.
	r.leader, r.block.Lver = l, l.Lver
	return nil
}

// uncontested reads the area again: the leader must be what we committed, and no other host in a ballot for its version.
func (r *resource) uncontested(ctx context.Context) error {
	buf, l, err := r.readArea(ctx)
	if err != nil {
		return err
	}
	defer r.ls.putBuffer(buf)
	if l != r.leader {
		return fmt.Errorf("%w: it has version %d of host %d", ErrChanged, l.Lver, l.OwnerID)
	}
	for h := 1; h <= int(l.NumHosts); h++ {
		var d DBlock
		if err := d.Decode(buf[r.geo.sector(h+1):r.geo.sector(h+2)]); err != nil {
			return err
		}
		if h != r.ls.cfg.HostID && !d.ZeroValue && d.Lver >= l.Lver {
			return fmt.Errorf("host %d wants it too: %w", h, ErrBusy)
		}
	}
	return nil
}
