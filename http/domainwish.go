package httpapi

import (
	"context"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

func activateDomain(b *Backend, r *http.Request) (reply, error) {
	return wishDomain(b, r, func(d Domains) domainWisher { return d.ActivateDomain })
}

func deactivateDomain(b *Backend, r *http.Request) (reply, error) {
	return wishDomain(b, r, func(d Domains) domainWisher { return d.DeactivateDomain })
}

// domainWisher does what a person wants of a domain.
type domainWisher func(ctx context.Context, id string, req api.DomainWish, by string) (api.Domain, error)

func wishDomain(b *Backend, r *http.Request, which func(Domains) domainWisher) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	var req api.DomainWish
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkText("reason", req.Reason, maxReason); err != nil {
		return reply{}, err
	}
	if b.Domains == nil {
		return reply{}, notMember()
	}
	d, err := b.findDomain(r.Context(), ref)
	if err != nil {
		return reply{}, err
	}
	if d, err = which(b.Domains)(r.Context(), d.ID, req, identityOf(r.Context()).Name); err != nil {
		return reply{}, err
	}
	d.LUNs = noNil(d.LUNs)
	return reply{body: d, epoch: d.Epoch}, nil
}
