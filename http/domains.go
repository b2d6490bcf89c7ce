package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

func listDomains(b *Backend, r *http.Request) (reply, error) {
	return mirrored(b, r, b.Domains, b.domains)
}

func (b *Backend) domains(ctx context.Context) ([]api.Domain, error) {
	l, err := b.Domains.Domains(ctx)
	for i := range l {
		l[i].LUNs = noNil(l[i].LUNs)
	}
	return noNil(l), err
}

// findDomain looks a domain up by UUID or by name.
func (b *Backend) findDomain(ctx context.Context, ref string) (api.Domain, error) {
	l, err := b.domains(ctx)
	if err != nil {
		return api.Domain{}, err
	}
	for _, d := range l {
		if d.ID == strings.ToLower(ref) || d.Name == ref {
			return d, nil
		}
	}
	return api.Domain{}, api.Errorf(api.CodeNotFound, "holdfast domain list shows the domains", "no domain has the id or name %q", ref)
}

func getDomain(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	return mirrored(b, r, b.Domains, func(ctx context.Context) (api.Domain, error) { return b.findDomain(ctx, ref) })
}

func createDomain(b *Backend, r *http.Request) (reply, error) {
	var req api.DomainCreate
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkDomainCreate(req); err != nil {
		return reply{}, err
	}
	if b.Domains == nil {
		return reply{}, notMember()
	}
	d, err := b.Domains.CreateDomain(r.Context(), req)
	if err != nil {
		return reply{}, err
	}
	d.LUNs = noNil(d.LUNs)
	return reply{status: http.StatusCreated, body: d, mark: &Mark{Index: d.Index}, epoch: d.Epoch}, nil
}

func extendDomain(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	var req api.DomainExtend
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkDomainExtend(req); err != nil {
		return reply{}, err
	}
	if b.Domains == nil {
		return reply{}, notMember()
	}
	d, err := b.Domains.ExtendDomain(r.Context(), ref, req)
	if err != nil {
		return reply{}, err
	}
	d.LUNs = noNil(d.LUNs)
	return reply{body: d, mark: &Mark{Index: d.Index}, epoch: d.Epoch}, nil
}

func checkDomain(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	if b.Domains == nil {
		return reply{}, notMember()
	}
	d, err := b.findDomain(r.Context(), ref)
	if err != nil {
		return reply{}, err
	}
	c, err := b.Domains.CheckDomain(r.Context(), d.ID)
	if err != nil {
		return reply{}, err
	}
	c.Findings = noNil(c.Findings)
	return reply{body: c}, nil
}
