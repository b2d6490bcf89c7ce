package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

func listHosts(b *Backend, r *http.Request) (reply, error) {
	return mirrored(b, r, b.Hosts, func(ctx context.Context) ([]api.Host, error) {
		l, err := b.Hosts.Hosts(ctx)
		return hostsOf(l), err
	})
}

// hostsOf leaves no list nil.
func hostsOf(l []api.Host) []api.Host {
	l = noNil(l)
	for i := range l {
		l[i].Witnesses = noNil(l[i].Witnesses)
	}
	return l
}

func getHost(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	return mirrored(b, r, b.Hosts, func(ctx context.Context) (api.Host, error) {
		l, err := b.Hosts.Hosts(ctx)
		if err != nil {
			return api.Host{}, err
		}
		for _, h := range l {
			if h.Name == name {
				h.Witnesses = noNil(h.Witnesses)
				return h, nil
			}
		}
		return api.Host{}, api.Errorf(api.CodeNotFound, "holdfast host list shows the hosts", "no host is called %q", name)
	})
}

func removeHost(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	var req api.HostRemove
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkText("reason", req.Reason, maxReason); err != nil {
		return reply{}, err
	}
	if req.Force && strings.TrimSpace(req.Reason) == "" {
		return reply{}, invalid("say how you know that the host writes nothing any more", "reason is missing, which force needs")
	}
	if b.Hosts == nil {
		return reply{}, notMember()
	}
	out, err := b.Hosts.RemoveHost(r.Context(), name, req, identityOf(r.Context()).Name)
	if err != nil {
		return reply{}, err
	}
	return reply{body: out}, nil
}

// maxReason bounds what a person says; it is kept in the pool's history.
const maxReason = 500

func confirmRebooted(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	var req api.HostConfirm
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkText("reason", req.Reason, maxReason); err != nil {
		return reply{}, err
	}
	if strings.TrimSpace(req.Reason) == "" {
		return reply{}, invalid("say how you know that the host writes nothing any more", "reason is missing")
	}
	if b.Hosts == nil {
		return reply{}, notMember()
	}
	out, err := b.Hosts.ConfirmRebooted(r.Context(), name, req, identityOf(r.Context()).Name)
	if err != nil {
		return reply{}, err
	}
	return reply{body: out}, nil
}
