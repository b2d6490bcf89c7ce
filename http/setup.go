package httpapi

import (
	"context"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

func initCluster(b *Backend, r *http.Request) (reply, error) {
	return setup(b, r, checkInit, func(ctx context.Context, req api.Init) (api.Member, error) { return b.Setup.Init(ctx, req) })
}

func joinCluster(b *Backend, r *http.Request) (reply, error) {
	return setup(b, r, checkJoin, func(ctx context.Context, req api.Join) (api.Member, error) { return b.Setup.Join(ctx, req) })
}

func leaveCluster(b *Backend, r *http.Request) (reply, error) {
	nothing := func(*api.Leave) error { return nil }
	return setup(b, r, nothing, func(ctx context.Context, req api.Leave) (api.Member, error) { return b.Setup.Leave(ctx, req) })
}

func setup[Req any](b *Backend, r *http.Request, check func(*Req) error, run func(context.Context, Req) (api.Member, error)) (reply, error) {
	var req Req
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := check(&req); err != nil {
		return reply{}, err
	}
	if b.Setup == nil {
		return reply{}, api.Errorf(api.CodeNotImplemented, "use an agent that is not managed by holdfast dev", "this agent is set up by its supervisor")
	}
	m, err := run(r.Context(), req)
	return reply{body: m}, err
}
