package httpapi

import (
	"context"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

// Leases reads the leases of VMs and jobs from the LUN, on any host, and changes them as SPM. domain is a UUID.
type Leases interface {
	Leases(ctx context.Context, domain string) ([]api.Lease, error)
	Lease(ctx context.Context, domain, id string) (api.Lease, error)
	CreateLease(ctx context.Context, domain, id string) (api.LeaseCreated, error)
	// DeleteLease refuses a lease that is held, unless force is set. One that does not exist needs no deleting.
	DeleteLease(ctx context.Context, domain, id string, force bool) (api.LeaseDeleted, error)
	RebuildLeases(ctx context.Context, domain string, req api.LeaseRebuild) (api.LeaseRebuilt, error)
	// AcquireLease and ReleaseLease run on the host that was asked. They do not wait: a lease that somebody has is an
	// error with CodeBusy, its holder, and the time until it could be had.
	AcquireLease(ctx context.Context, domain, id string, who api.LeaseFor) (api.LeaseHeld, error)
	ReleaseLease(ctx context.Context, domain, id string, who api.LeaseFor) (api.LeaseReleased, error)
}

// leaseDomain is the domain that a path names, looked up in the mirror.
func leaseDomain(b *Backend, r *http.Request) (string, error) {
	if b.Leases == nil || b.Domains == nil || b.Mirror == nil {
		return "", notMember()
	}
	ref, err := pathVar(r, "id")
	if err != nil {
		return "", err
	}
	if _, err := b.Mirror.Sync(r.Context(), false, 0); err != nil {
		return "", err
	}
	d, err := b.findDomain(r.Context(), ref)
	return d.ID, err
}

// leaseID is the lease that a path names.
func leaseID(r *http.Request) (string, error) {
	id, err := pathVar(r, "lease")
	if err != nil {
		return "", err
	}
	err = checkLeaseID(&id)
	return id, err
}

// checkLeaseID refuses ids that VDSM would refuse, and makes the others lower case.
func checkLeaseID(id *string) error {
	if *id == "" {
		return invalid("give a UUID", "the lease has no id")
	}
	return checkID("lease id", id)
}

// checkLeasePath looks at a request before it is passed on.
func checkLeasePath(r *http.Request) error {
	_, err := leaseID(r)
	return err
}

// exactQuery refuses query parameters other than the known ones; unlike lists, these answers come from the LUN.
func exactQuery(r *http.Request, known ...string) error {
	for _, p := range readParams {
		if r.URL.Query().Has(p) {
			return invalid("leave it out: leases are read from the LUN", "query parameter %q means nothing here", p)
		}
	}
	return checkQuery(r, known...)
}

func listLeases(b *Backend, r *http.Request) (reply, error) {
	if err := exactQuery(r); err != nil {
		return reply{}, err
	}
	dom, err := leaseDomain(b, r)
	if err != nil {
		return reply{}, err
	}
	l, err := b.Leases.Leases(r.Context(), dom)
	if err != nil {
		return reply{}, err
	}
	return reply{body: noNil(l)}, nil
}

func getLease(b *Backend, r *http.Request) (reply, error) {
	if err := exactQuery(r); err != nil {
		return reply{}, err
	}
	id, err := leaseID(r)
	if err != nil {
		return reply{}, err
	}
	dom, err := leaseDomain(b, r)
	if err != nil {
		return reply{}, err
	}
	l, err := b.Leases.Lease(r.Context(), dom, id)
	if err != nil {
		return reply{}, err
	}
	return reply{body: l}, nil
}

func createLease(b *Backend, r *http.Request) (reply, error) {
	if err := ensureKey(r); err != nil {
		return reply{}, err
	}
	var req api.LeaseCreate
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkLeaseID(&req.ID); err != nil {
		return reply{}, err
	}
	dom, err := leaseDomain(b, r)
	if err != nil {
		return reply{}, err
	}
	l, err := b.Leases.CreateLease(r.Context(), dom, req.ID)
	if err != nil {
		return reply{}, err
	}
	status := http.StatusOK
	if l.Created {
		status = http.StatusCreated
	}
	return reply{status: status, body: l, epoch: l.Epoch}, nil
}

func deleteLease(b *Backend, r *http.Request) (reply, error) {
	if err := exactQuery(r, "force"); err != nil {
		return reply{}, err
	}
	force, err := flagParam(r, "force")
	if err != nil {
		return reply{}, err
	}
	id, err := leaseID(r)
	if err != nil {
		return reply{}, err
	}
	dom, err := leaseDomain(b, r)
	if err != nil {
		return reply{}, err
	}
	l, err := b.Leases.DeleteLease(r.Context(), dom, id, force)
	if err != nil {
		return reply{}, err
	}
	return reply{body: l, epoch: l.Epoch}, nil
}

// flagParam is a query parameter that is true or false.
func flagParam(r *http.Request, name string) (bool, error) {
	switch s := r.URL.Query().Get(name); s {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	default:
		return false, invalid("give true or false", "%s is %q", name, s)
	}
}

func rebuildLeases(b *Backend, r *http.Request) (reply, error) {
	if err := ensureKey(r); err != nil {
		return reply{}, err
	}
	var req api.LeaseRebuild
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	dom, err := leaseDomain(b, r)
	if err != nil {
		return reply{}, err
	}
	l, err := b.Leases.RebuildLeases(r.Context(), dom, req)
	if err != nil {
		return reply{}, err
	}
	l.Written, l.Recovered = noNil(l.Written), noNil(l.Recovered)
	return reply{body: l, epoch: l.Epoch}, nil
}
