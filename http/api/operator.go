package api

import "time"

// Roles of tokens and certificates.
const (
	RoleAdmin = "admin" // everything
	RoleRead  = "read"  // GET only
	RoleJoin  = "join"  // joining the cluster once; no API access
)

// RaftPeer is one member of the Raft configuration.
type RaftPeer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
	Leader  bool   `json:"leader"`
}

// RaftTransfer asks the leader to hand over.
type RaftTransfer struct {
	To string `json:"to,omitempty"` // host name; empty lets Raft choose
}

// Token is a token without its secret.
type Token struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires"`
	UsedBy  string    `json:"used_by,omitempty"`
	UsedAt  time.Time `json:"used_at,omitzero"`
}

// TokenCreate asks for a token.
type TokenCreate struct {
	Role       string `json:"role,omitempty"`        // default join
	TTLSeconds int64  `json:"ttl_seconds,omitempty"` // default 3600
}

// TokenCreated holds the secret; it is shown once and kept nowhere.
type TokenCreated struct {
	Token         // the token's record
	Secret string `json:"token"`
}
