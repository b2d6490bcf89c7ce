package httpapi

import (
	"cmp"
	"context"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

func listPeers(b *Backend, r *http.Request) (reply, error) {
	return mirrored(b, r, b.Operator, func(ctx context.Context) ([]api.RaftPeer, error) {
		l, err := b.Operator.RaftPeers(ctx)
		return noNil(l), err
	})
}

func transferRaft(b *Backend, r *http.Request) (reply, error) {
	var req api.RaftTransfer
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkHostRef(req.To); err != nil {
		return reply{}, err
	}
	if b.Operator == nil {
		return reply{}, notMember()
	}
	l, err := b.Operator.TransferLeadership(r.Context(), req)
	return reply{body: noNil(l)}, err
}

func listTokens(b *Backend, r *http.Request) (reply, error) {
	return mirrored(b, r, b.Tokens, func(ctx context.Context) ([]api.Token, error) {
		l, err := b.Tokens.Tokens(ctx)
		return noNil(l), err
	})
}

func createToken(b *Backend, r *http.Request) (reply, error) {
	var req api.TokenCreate
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	req.Role = cmp.Or(req.Role, api.RoleJoin)
	if err := checkTokenCreate(&req); err != nil {
		return reply{}, err
	}
	if b.Tokens == nil {
		return reply{}, notMember()
	}
	t, err := b.Tokens.CreateToken(r.Context(), req)
	return reply{status: http.StatusCreated, body: t}, err
}

func revokeToken(b *Backend, r *http.Request) (reply, error) {
	id, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	if b.Tokens == nil {
		return reply{}, notMember()
	}
	return reply{status: http.StatusNoContent}, b.Tokens.RevokeToken(r.Context(), id)
}
