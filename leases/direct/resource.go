package direct

import (
	"context"

	"github.com/holdfast-io/holdfast/leases"
)

// Owner is the host that a lease is taken or released for.
type Owner struct {
	HostID     uint64
	Generation uint64
}

// Acquire takes a resource exclusively for a host, if it is free or that host's already.
func (t Tool) Acquire(ctx context.Context, p Place, space, name string, o Owner) error {
	return t.withResource(ctx, p, space, name, o, func(s leases.Standalone, spec leases.ResourceSpec, geo leases.Geometry) error {
		_, err := s.Acquire(ctx, spec, geo)
		return err
	})
}

// Release frees a resource that a host holds in a generation. sanlock's own command does nothing here.
func (t Tool) Release(ctx context.Context, p Place, space, name string, o Owner) error {
	return t.withResource(ctx, p, space, name, o, func(s leases.Standalone, spec leases.ResourceSpec, geo leases.Geometry) error {
		return s.Release(ctx, spec, geo)
	})
}

// withResource opens and verifies a resource.
func (t Tool) withResource(ctx context.Context, p Place, space, name string, o Owner,
	f func(leases.Standalone, leases.ResourceSpec, leases.Geometry) error) (err error) {
	dev, err := t.open(ctx, p, false, 0)
	if err != nil {
		return err
	}
	defer closing(dev, &err)
	geo, err := t.sizes(ctx, dev, p.Offset)
	if err != nil {
		return err
	}
	l, err := t.resourceLeader(ctx, dev, p, space, name)
	switch {
	case err != nil && Code(err) == CodeChecksum && l.NumHosts < o.HostID, err == nil && l.NumHosts < o.HostID:
		return codef(CodeNumHosts, "the lease takes %d hosts, not host %d", l.NumHosts, o.HostID)
	case err != nil:
		return err
	case o.HostID == 0:
		return codef(CodeInvalid, "a host id is needed, from 1 on")
	}
	s := leases.Standalone{Lockspace: space, HostID: int(o.HostID), Generation: o.Generation, Profile: t.profile(), Log: t.Log}
	return f(s, leases.ResourceSpec{Name: name, Device: dev, Offset: p.Offset}, geo)
}
