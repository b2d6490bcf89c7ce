package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/fsm"
)

// CreateToken makes a token of a role (fsm.TokenJoin, TokenAdmin, TokenRead) and returns its text, which is not kept
// anywhere. It ends after life; 0 means never, which a join token may not.
func (n *Node) CreateToken(ctx context.Context, role string, life time.Duration) (fsm.Token, string, error) {
	if role == fsm.TokenJoin && life <= 0 {
		return fsm.Token{}, "", fmt.Errorf("a join token needs a lifetime: %w", fsm.ErrInvalid)
	}
	secret, err := join.NewToken(n.ca.Hash())
	if err != nil {
		return fsm.Token{}, "", err
	}
	now := time.Now()
	tok := fsm.Token{ID: secret.ID, Role: role, SecretHash: join.HashSecret(secret.Secret), Created: now.UnixNano()}
	if life > 0 {
		tok.Expires = now.Add(life).UnixNano()
	}
	out, err := n.Apply(ctx, &fsm.TokenCreate{Token: tok})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return fsm.Token{}, "", fmt.Errorf("creating a token: %w", err)
	}
	return tok, secret.String(), nil
}

// VerifyToken finds the API token that a client shows. Join tokens are no API tokens.
func (n *Node) VerifyToken(text string) (fsm.Token, error) {
	shown, err := join.ParseToken(text)
	if err != nil {
		return fsm.Token{}, err
	}
	tok, ok := n.View().Tokens.Get(shown.ID)
	if !join.SecretMatches(shown.Secret, tok.SecretHash) || !ok || tok.Role == fsm.TokenJoin {
		return fsm.Token{}, fsm.ErrTokenUnknown
	}
	if tok.Expires != 0 && time.Now().UnixNano() >= tok.Expires {
		return fsm.Token{}, fsm.ErrTokenExpired
	}
	return tok, nil
}
