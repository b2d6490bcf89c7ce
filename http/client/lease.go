package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
)

// leasesPath is the path of a domain's leases, or of one of them.
func leasesPath(domain string, more ...string) string {
	p := "/v1/domains/" + url.PathEscape(domain) + "/leases"
	for _, m := range more {
		p += "/" + url.PathEscape(m)
	}
	return p
}

// Leases lists the leases of VMs and jobs in a domain, by UUID or name, as they are on the LUN.
func (c *Client) Leases(ctx context.Context, domain string) ([]api.Lease, error) {
	l, _, err := get[[]api.Lease](ctx, c, leasesPath(domain), nil)
	return l, err
}

// Lease returns one lease and who has it.
func (c *Client) Lease(ctx context.Context, domain, id string) (api.Lease, error) {
	l, _, err := get[api.Lease](ctx, c, leasesPath(domain, id), nil)
	return l, err
}

// CreateLease makes a lease. One that exists is answered with Created false, so that a lost answer can be asked for again.
func (c *Client) CreateLease(ctx context.Context, domain, id string) (api.LeaseCreated, error) {
	return change[api.LeaseCreated](ctx, c, call{method: http.MethodPost, path: leasesPath(domain),
		body: api.LeaseCreate{ID: id}, key: uuid.NewString()})
}

// DeleteLease deletes a lease; one that does not exist is answered with Deleted false.
func (c *Client) DeleteLease(ctx context.Context, domain, id string, force bool) (api.LeaseDeleted, error) {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	return change[api.LeaseDeleted](ctx, c, call{method: http.MethodDelete, path: leasesPath(domain, id), query: q, key: uuid.NewString()})
}

// RebuildLeases makes a domain's index of leases agree with what lies on the LUN.
func (c *Client) RebuildLeases(ctx context.Context, domain string, req api.LeaseRebuild) (api.LeaseRebuilt, error) {
	return change[api.LeaseRebuilt](ctx, c, call{method: http.MethodPost, path: leasesPath(domain, "rebuild"), body: req, key: uuid.NewString()})
}
