package httpapi

import (
	"context"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

func listHosts(b *Backend, r *http.Request) (reply, error) {
	return mirrored(b, r, b.Hosts, func(ctx context.Context) ([]api.Host, error) {
		l, err := b.Hosts.Hosts(ctx)
		return noNil(l), err
	})
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
				return h, nil
			}
		}
		return api.Host{}, api.Errorf(api.CodeNotFound, "holdfast host list shows the hosts", "no host is called %q", name)
	})
}
