package spm

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

// ExternalLeases are the leases of a domain that belong to no volume.
type ExternalLeases struct {
	// Volume is bound to the guard that it was made for.
	Volume *xlease.Volume
	// Hosts looks at the hosts of the domain's lockspace.
	Hosts xlease.Hosts
}

// LeaseReply is the answer to a change of the external leases.
type LeaseReply struct {
	Lease  xlease.Record
	Domain string // UUID
	Epoch  uint64
	// Changed is false when there was nothing to do: the lease to make exists, or the one to delete does not.
	Changed bool
}

// CreateLease makes an external lease. One that exists is answered as it is.
func (r *Role) CreateLease(ctx context.Context, domainName, id string) (LeaseReply, error) {
	if err := xlease.CheckID(id); err != nil {
		return LeaseReply{}, err
	}
	var rep LeaseReply
	err := r.leases(ctx, domainName, &rep, func(ctx context.Context, _ *served, x ExternalLeases) (err error) {
		rep.Lease, rep.Changed, err = x.Volume.Add(ctx, id)
		return err
	})
	return rep, err
}

// DeleteLease deletes an external lease. One that is held is refused (xlease.InUseError) unless force is set; one that
// does not exist needs no deleting.
func (r *Role) DeleteLease(ctx context.Context, domainName, id string, force bool) (LeaseReply, error) {
	if err := xlease.CheckID(id); err != nil {
		return LeaseReply{}, err
	}
	rep := LeaseReply{Lease: xlease.Record{ID: id}}
	err := r.leases(ctx, domainName, &rep, func(ctx context.Context, d *served, x ExternalLeases) error {
		held := x.Volume.Refuse(ctx, id, x.Hosts)
		if held != nil && !(force && mayForce(held)) {
			return fmt.Errorf("deleting lease %s: %w", id, held)
		}
		rec, err := x.Volume.Remove(ctx, id)
		if errors.Is(err, xlease.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		rep.Lease, rep.Changed = rec, true
		if held != nil {
			d.s.tell(fsm.Warning, "lease.forced", id, held.Error(), fmt.Sprintf("lease %s of domain %s was deleted by force: %v", id, d.name, held))
		}
		return nil
	})
	return rep, err
}

// mayForce says whether force overrules a refusal: it is about the state of the lease, not a failure to read it.
func mayForce(err error) bool {
	return errors.Is(err, xlease.ErrInUse) || errors.Is(err, xlease.ErrDamaged)
}

// RebuildLeases makes the index of the external leases agree with their resources.
func (r *Role) RebuildLeases(ctx context.Context, domainName string, force bool) (xlease.Report, LeaseReply, error) {
	var rep LeaseReply
	var report xlease.Report
	err := r.leases(ctx, domainName, &rep, func(ctx context.Context, d *served, x ExternalLeases) (err error) {
		report, err = x.Volume.Rebuild(ctx, xlease.RebuildOptions{Hosts: x.Hosts, Force: force})
		if err != nil {
			return err
		}
		rep.Changed = true
		d.s.tell(fsm.Info, "lease.rebuilt", d.id, "an operator asked for it", fmt.Sprintf("the index of external leases of domain %s was rebuilt: %d leases, "+
			"%d resources written, %d records recovered, %d freed, %d resources cleared", d.name, report.Leases,
			len(report.Written), len(report.Recovered), report.Freed, report.Cleared))
		return nil
	})
	return report, rep, err
}

// leases runs one change of a domain's external leases: gate, one at a time, no earlier write on its way, disk.
func (r *Role) leases(ctx context.Context, domainName string, rep *LeaseReply,
	fn func(context.Context, *served, ExternalLeases) error) error {
	if r.cfg.Leases == nil {
		return invalidf("this host has no external leases")
	}
	s, err := r.serving()
	if err != nil {
		return err
	}
	d, err := s.domain(ctx, domainName)
	if err != nil {
		return err
	}
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.leave()
	ctx, cancel := bind(ctx, d.ctx)
	defer cancel()
	ctx, cancel2 := context.WithTimeout(ctx, leaseSteps*r.cfg.StepTimeout)
	defer cancel2()
	rep.Domain, rep.Epoch = d.id, s.epoch
	if err := d.changeLeases(ctx, fn); err != nil {
		return r.refine(d, err)
	}
	return nil
}

// leaseSteps is how many times StepTimeout a change may take: a rebuild may write each of a thousand resources.
const leaseSteps = 3

// changeLeases runs fn alone. A write that was given up must have come back before: landing later it would put an old
// sector of the index, with the records beside its own, over a new one.
func (d *served) changeLeases(ctx context.Context, fn func(context.Context, *served, ExternalLeases) error) error {
	select {
	case d.leaseTurn <- struct{}{}:
		defer func() { <-d.leaseTurn }()
	case <-ctx.Done():
		return fmt.Errorf("another change of external leases is under way: %w", ErrBusy)
	}
	if err := d.settled(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	x, err := d.s.r.cfg.Leases(ctx, d.dom, d.guard)
	if err != nil {
		return err
	}
	return fn(ctx, d, x)
}

// LeasesFunc opens the external leases of a domain for changes under a guard.
type LeasesFunc func(ctx context.Context, dom Domain, g blockdev.Guard) (ExternalLeases, error)
