package main

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// RaftPeers lists Raft's configuration.
func (b *backend) RaftPeers(context.Context) ([]api.RaftPeer, error) {
	n, err := b.node()
	if err != nil {
		return nil, err
	}
	leader, _ := n.Leader()
	peers, err := n.RaftPeers()
	if err != nil {
		return nil, apiError(err)
	}
	out := make([]api.RaftPeer, 0, len(peers))
	for _, p := range peers {
		out = append(out, api.RaftPeer{Name: p.Name, Address: p.Address, Voter: p.Voter, Leader: p.Name == leader})
	}
	return out, nil
}

// TransferLeadership hands leadership over.
func (b *backend) TransferLeadership(ctx context.Context, req api.RaftTransfer) ([]api.RaftPeer, error) {
	n, err := b.node()
	if err != nil {
		return nil, err
	}
	before, _ := n.Leader()
	if err := n.TransferLeadership(ctx, req.To); err != nil {
		return nil, apiError(err)
	}
	if err := awaitLeader(ctx, n, before, req.To); err != nil {
		return nil, api.Errorf(api.CodeOutcomeUnknown, "holdfast operator raft list-peers shows who leads now", "the transfer began, but no new leader was seen: %v", err)
	}
	return b.RaftPeers(ctx)
}

// transferWait bounds the wait for a new leader, transferPoll is how often it is looked for.
const (
	transferWait = 5 * time.Second
	transferPoll = 5 * time.Millisecond
)

// awaitLeader waits until this host knows the new leader.
func awaitLeader(ctx context.Context, n *cluster.Node, before, to string) error {
	ctx, cancel := context.WithTimeout(ctx, transferWait)
	defer cancel()
	tick := time.NewTicker(transferPoll)
	defer tick.Stop()
	for {
		if now, ok := n.Leader(); ok && (now == to || to == "" && now != before) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Tokens lists the tokens without their secrets.
func (b *backend) Tokens(context.Context) ([]api.Token, error) {
	st, err := b.state()
	if err != nil {
		return nil, err
	}
	out := make([]api.Token, 0, st.Tokens.Len())
	for _, t := range st.Tokens.All() {
		out = append(out, apiToken(t))
	}
	return out, nil
}

func apiToken(t fsm.Token) api.Token {
	return api.Token{ID: t.ID, Role: t.Role, Expires: unixTime(t.Expires), UsedBy: t.UsedBy, UsedAt: unixTime(t.UsedAt)}
}

// CreateToken makes a token.
func (b *backend) CreateToken(ctx context.Context, req api.TokenCreate) (api.TokenCreated, error) {
	if _, err := b.node(); err != nil {
		return api.TokenCreated{}, err
	}
	t, secret, err := b.host.CreateToken(ctx, req.Role, time.Duration(req.TTLSeconds)*time.Second)
	if err != nil {
		return api.TokenCreated{}, apiError(err)
	}
	return api.TokenCreated{Token: apiToken(t), Secret: secret}, nil
}

// RevokeToken takes a token back.
func (b *backend) RevokeToken(ctx context.Context, id string) error {
	n, err := b.node()
	if err != nil {
		return err
	}
	out, err := n.Apply(ctx, &fsm.TokenRevoke{ID: id})
	if err == nil {
		err = out.Err()
	}
	if errors.Is(err, fsm.ErrTokenUnknown) { // here the token is what is asked about, not the caller's own
		return api.Errorf(api.CodeNotFound, "holdfast operator token list shows what there is", "no token has the id %q", id)
	}
	return apiError(err)
}

// VerifyToken finds the caller behind a bearer token. Join tokens open nothing here.
func (b *backend) VerifyToken(_ context.Context, text string) (httpapi.Identity, error) {
	n, err := b.node()
	if err != nil {
		return httpapi.Identity{}, err
	}
	tok, err := n.VerifyToken(text)
	if err != nil {
		return httpapi.Identity{}, api.Errorf(api.CodeUnauthorized, "ask for a new one: holdfast operator token create --role read",
			"the token is wrong, expired or revoked")
	}
	return httpapi.Identity{Name: "token " + tok.ID, Role: tok.Role}, nil
}

var _ httpapi.TokenVerifier = (*backend)(nil)
