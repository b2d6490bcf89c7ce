package apitest

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// otherDomain is a domain besides the master.
func otherDomain(id string) api.Domain {
	d := domain()
	d.ID, d.Name, d.Role, d.LUNs = id, "san2", "regular", []string{"/dev/mapper/36001405b"}
	d.FailingHosts, d.Deadline = nil, time.Time{}
	return d
}

// ActivateDomain implements httpapi.Domains.
func (f *Fake) ActivateDomain(_ context.Context, id string, req api.DomainWish, by string) (api.Domain, error) {
	d := otherDomain(id)
	d.Since, d.Reason = Now, "hosts reach it"
	return d, f.fail()
}

// DeactivateDomain implements httpapi.Domains.
func (f *Fake) DeactivateDomain(_ context.Context, id string, req api.DomainWish, by string) (api.Domain, error) {
	d := otherDomain(id)
	d.Status, d.Since, d.Reason = api.DomainMaintenance, Now, "wanted by "+by
	if req.Reason != "" {
		d.Reason += ": " + req.Reason
	}
	return d, f.fail()
}
