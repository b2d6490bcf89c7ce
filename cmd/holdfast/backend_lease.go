package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/cluster/startable"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

// leaseBackend answers for the leases of VMs and jobs. They are not mirrored: the LUN is asked, on whatever host.
type leaseBackend struct{ *backend }

// Leases lists the leases of a domain.
func (b leaseBackend) Leases(ctx context.Context, domain string) ([]api.Lease, error) {
	st, err := b.state()
	if err != nil {
		return nil, err
	}
	l, err := b.host.Leases(ctx, domain)
	if err != nil {
		return nil, apiError(err)
	}
	out := make([]api.Lease, 0, len(l))
	for i := range l {
		if !l[i].Updating {
			out = append(out, b.shown(st, domain, &l[i]))
		}
	}
	return out, nil
}

// Lease reads one lease.
func (b leaseBackend) Lease(ctx context.Context, domain, id string) (api.Lease, error) {
	st, err := b.state()
	if err != nil {
		return api.Lease{}, err
	}
	l, err := b.host.Lease(ctx, domain, id)
	if err != nil && l.Err == nil {
		return api.Lease{}, apiError(err)
	}
	return b.shown(st, domain, &l), nil
}

// shown is a lease as the API shows it, with the answer whether what it protects may be started elsewhere.
func (b leaseBackend) shown(st *fsm.State, domain string, l *xlease.Status) api.Lease {
	out := apiLease(st, domain, l)
	pool, _ := st.Pool()
	policy := startable.Policy{UnprotectedTakeover: b.host.UnprotectedTakeover(pool.Profile)}
	out.Start = apiStart(startable.Judge(startFacts(st, domain, l, time.Now()), policy))
	return out
}

// CreateLease makes a lease; it runs on the SPM.
func (b leaseBackend) CreateLease(ctx context.Context, domain, id string) (api.LeaseCreated, error) {
	r, err := b.role()
	if err != nil {
		return api.LeaseCreated{}, err
	}
	rep, err := r.CreateLease(ctx, domain, id)
	if err != nil {
		return api.LeaseCreated{}, b.leaseError(err)
	}
	return api.LeaseCreated{ID: id, Domain: rep.Domain, Offset: rep.Lease.Offset, Created: rep.Changed, Epoch: rep.Epoch}, nil
}

// DeleteLease deletes a lease; it runs on the SPM.
func (b leaseBackend) DeleteLease(ctx context.Context, domain, id string, force bool) (api.LeaseDeleted, error) {
	r, err := b.role()
	if err != nil {
		return api.LeaseDeleted{}, err
	}
	rep, err := r.DeleteLease(ctx, domain, id, force)
	if err != nil {
		return api.LeaseDeleted{}, b.leaseError(err)
	}
	return api.LeaseDeleted{ID: id, Domain: rep.Domain, Deleted: rep.Changed, Epoch: rep.Epoch}, nil
}

// RebuildLeases rebuilds the index; it runs on the SPM.
func (b leaseBackend) RebuildLeases(ctx context.Context, domain string, req api.LeaseRebuild) (api.LeaseRebuilt, error) {
	r, err := b.role()
	if err != nil {
		return api.LeaseRebuilt{}, err
	}
	x, rep, err := r.RebuildLeases(ctx, domain, req.Force)
	if err != nil {
		return api.LeaseRebuilt{}, b.leaseError(err)
	}
	return api.LeaseRebuilt{Domain: rep.Domain, Leases: x.Leases, Written: x.Written, Recovered: x.Recovered, Freed: x.Freed,
		Cleared: x.Cleared, Epoch: rep.Epoch}, nil
}

// leaseError says who has a lease that was refused.
func (b leaseBackend) leaseError(err error) error {
	var used *xlease.InUseError
	if !errors.As(err, &used) {
		return apiError(err)
	}
	e := api.Errorf(api.CodeBusy, "release the lease where it is held, or use --force (force=true) if nothing runs under it", "%v", err)
	if st, serr := b.state(); serr == nil {
		e.Holder = hostNameOf(st, used.Judgement.Owner)
	}
	e.RetryAfter = used.Judgement.FreeIn
	return e
}

// hostNameOf is the name of a member by its host id, or the id itself where the mirror does not know it.
func hostNameOf(st *fsm.State, id int) string {
	if id == 0 {
		return ""
	}
	if h, ok := st.HostByID(id); ok {
		return h.Name
	}
	return fmt.Sprintf("host id %d", id)
}

// apiLease is a lease as the API shows it.
func apiLease(st *fsm.State, domain string, l *xlease.Status) api.Lease {
	out := api.Lease{ID: l.ID, Domain: domain, Offset: l.Offset, Status: string(l.State), Version: l.Version, Generation: l.Generation,
		Takeable: l.Takeable, Reason: l.Reason, FreeIn: rounded(l.FreeIn), Age: rounded(l.Held)}
	switch {
	case errors.Is(l.Err, unix.EIO):
		out.Status, out.Reason = api.LeaseUnreadable, l.Err.Error()
		return out
	case l.Err != nil:
		out.Status, out.Reason = api.LeaseDamaged, l.Err.Error()
		return out
	case l.State == leases.ResourceFree:
		out.LastHolder = hostNameOf(st, l.Owner)
		return out
	}
	out.Holder, out.HostID = hostNameOf(st, l.Owner), l.Owner
	for _, h := range l.Holders {
		if h.HostID == l.Owner {
			out.HolderState = string(h.Status.State)
		}
		if l.State == leases.ResourceShared {
			out.Sharers = append(out.Sharers, api.LeaseHolder{Host: hostNameOf(st, h.HostID), HostID: h.HostID,
				Generation: h.Generation, State: string(h.Status.State)})
		}
	}
	return out
}

// rounded is a time in seconds, in tenths.
func rounded(d time.Duration) float64 { return d.Round(100 * time.Millisecond).Seconds() }
