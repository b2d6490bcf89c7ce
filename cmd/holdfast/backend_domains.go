package main

import (
	"context"

	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
)

// domainErrors says what the errors of domain activate and deactivate mean.
var domainErrors = []errorRule{
	{manager.ErrMasterDomain, api.CodeConflict, "holdfast domain set-master makes another domain the master"},
	{manager.ErrDomainUsed, api.CodeConflict, "detach the volumes and release the leases that are named, then try again"},
	{manager.ErrDomainWaits, api.CodeTimeout, "holdfast domain show says what it waits for; the same command again waits on"},
	{host.ErrMaintenance, api.CodeConflict, "holdfast domain activate takes it back into use"},
}

// ActivateDomain takes a domain back into use; it runs on the leader.
func (b *backend) ActivateDomain(ctx context.Context, id string, req api.DomainWish, by string) (api.Domain, error) {
	return b.wishDomain(ctx, manager.DomainWish{Domain: id, By: by, Reason: req.Reason}, (*manager.Manager).ActivateDomain)
}

// DeactivateDomain takes a domain out of use; it runs on the leader.
func (b *backend) DeactivateDomain(ctx context.Context, id string, req api.DomainWish, by string) (api.Domain, error) {
	return b.wishDomain(ctx, manager.DomainWish{Domain: id, By: by, Reason: req.Reason}, (*manager.Manager).DeactivateDomain)
}

func (b *backend) wishDomain(ctx context.Context, w manager.DomainWish,
	do func(*manager.Manager, context.Context, manager.DomainWish) (fsm.Domain, error)) (api.Domain, error) {
	if _, _, err := b.pool(); err != nil {
		return api.Domain{}, err
	}
	mgr := b.host.Manager()
	if mgr == nil {
		return api.Domain{}, apiError(manager.ErrNotLeading)
	}
	d, err := do(mgr, ctx, w)
	if err != nil {
		return api.Domain{}, apiError(err)
	}
	return b.domainNow(d.ID)
}

// domainNow is a domain as this host's mirror has it.
func (b *backend) domainNow(id string) (api.Domain, error) {
	st, err := b.state()
	if err != nil {
		return api.Domain{}, err
	}
	for _, d := range domainsOf(st) {
		if d.ID == id {
			return d, nil
		}
	}
	return api.Domain{}, api.Errorf(api.CodeNotFound, "holdfast domain list shows what there is", "no domain %q", id)
}

// refuseNew refuses what is new on a domain that is in maintenance.
func (b *backend) refuseNew(domain string) error {
	st, err := b.state()
	if err != nil {
		return err
	}
	return apiError(host.RefuseNew(st, domain))
}

// domainWarnings says which domains are not what they should be.
func domainWarnings(st *fsm.State, add func(severity, subject, next, format string, args ...any)) {
	for _, d := range st.Domains.All() {
		severity, next := api.SeverityWarning, ""
		switch d.CurrentStatus() {
		case fsm.DomainActive:
			if len(d.Failing) == 0 {
				continue
			}
			next = "look after the paths of these hosts to its LUNs"
		case fsm.DomainMaintenance:
			continue
		case fsm.DomainInactive:
			severity, next = api.SeverityError, "look after its LUNs; hosts try by themselves, and holdfast domain activate makes them try now"
		}
		add(severity, "domain/"+d.Name, next, "%s: %s", d.CurrentStatus(), d.Reason)
	}
}
