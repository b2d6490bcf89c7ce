package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

// ErrNotOpen says that this host does not use a domain now: it is being opened, or cannot be.
var ErrNotOpen = errors.New("the domain is not open on this host")

// lvExternal is the volume of external leases.
const lvExternal = "xleases"

// Leases lists the external leases of a domain, as they are on the LUN now, and who has them.
func (h *Host) Leases(ctx context.Context, domainID string) ([]xlease.Status, error) {
	x, err := h.external(ctx, domainID)
	if err != nil {
		return nil, err
	}
	return x.volume.List(ctx, x.hosts)
}

// Lease reads one external lease of a domain and who has it.
func (h *Host) Lease(ctx context.Context, domainID, id string) (xlease.Status, error) {
	x, err := h.external(ctx, domainID)
	if err != nil {
		return xlease.Status{}, err
	}
	return x.volume.Show(ctx, id, x.hosts)
}

// LeaseResource finds an external lease and tells what the keeper needs to take it. It reads the index anew.
func (h *Host) LeaseResource(ctx context.Context, domainID, id string) (keeper.ResourceSpec, xlease.Record, error) {
	x, err := h.external(ctx, domainID)
	if err != nil {
		return keeper.ResourceSpec{}, xlease.Record{}, err
	}
	rec, err := x.volume.Lookup(ctx, id)
	if err != nil {
		return keeper.ResourceSpec{}, rec, err
	}
	dev, off, err := x.group.Locate(lvExternal, rec.Offset)
	if err != nil {
		return keeper.ResourceSpec{}, rec, err
	}
	return keeper.ResourceSpec{Lockspace: domainID, Name: id, Device: dev.Name(), Offset: off}, rec, nil
}

// external is what reading the external leases of one domain needs.
type external struct {
	group  *lvm2.Group
	volume *xlease.Volume
	hosts  xlease.Hosts
}

// external finds the volume of external leases by the LVM metadata as it is now.
func (h *Host) external(ctx context.Context, domainID string) (*external, error) {
	rt := h.runtime()
	if rt == nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOpen, ErrNoStorage)
	}
	l, ok := rt.domain(domainID)
	if !ok {
		return nil, fmt.Errorf("domain %s: %w", domainID, ErrNotOpen)
	}
	octx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	var group *lvm2.Group
	err := l.complete(octx, func(devs []blockdev.Device) (err error) {
		group, err = lvm2.OpenWith(octx, devs, lvm2.Options{IOTimeout: l.opts.IOTimeout})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the volume group of domain %s: %w", domainID, err)
	}
	x := &external{group: group, hosts: rt.hostsOf(domainID, group.Locate)}
	dev, err := group.Device(lvExternal)
	if err != nil {
		return nil, fmt.Errorf("external leases of domain %s: %w", domainID, err)
	}
	x.volume, err = Locks{IOTimeout: rt.profile.IOTimeout, Log: rt.log}.externalLeases(dev, domainID)
	return x, err
}

// locate finds a byte of a volume.
type locate func(lv string, off int64) (blockdev.Device, int64, error)

// hostsOf looks at the hosts of a domain's lockspace: their records as they are on the LUN, judged with what our keeper
// has observed. Without the keeper nobody is known to be alive or dead, which makes every answer more careful.
func (rt *runtime) hostsOf(domainID string, find locate) xlease.Hosts {
	return func(ctx context.Context) (*leases.Survey, error) {
		dev, off, err := find("ids", 0)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout(rt.profile.IOTimeout))
		defer cancel()
		seen, err := rt.keeper.Hosts(ctx, domainID)
		if err != nil {
			rt.log.Warn("the keeper does not say who is alive", "domain", domainID, "err", err)
		}
		g := geometry(dev)
		return leases.ReadSurvey(ctx, dev, off, g, domainID, g.MaxHosts(), seen)
	}
}

// writableLeases opens the external leases of a domain that this host serves as SPM.
func (rt *runtime) writableLeases(_ context.Context, dom spm.Domain, g blockdev.Guard) (spm.ExternalLeases, error) {
	disk, ok := dom.(spm.Disk)
	if !ok {
		return spm.ExternalLeases{}, fmt.Errorf("external leases: %w", blockdev.ErrNotSupported)
	}
	id := disk.Info().UUID
	dev, err := disk.Device(lvExternal)
	if err != nil {
		return spm.ExternalLeases{}, fmt.Errorf("external leases of domain %s: %w", id, err)
	}
	v, err := Locks{IOTimeout: rt.profile.IOTimeout, Log: rt.log}.externalLeases(blockdev.NewGuarded(dev, g), id)
	if err != nil {
		return spm.ExternalLeases{}, err
	}
	lockspace := func(string, int64) (blockdev.Device, int64, error) { return disk.Lockspace() }
	return spm.ExternalLeases{Volume: v, Hosts: rt.hostsOf(id, lockspace)}, nil
}
