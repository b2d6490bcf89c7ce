package fsm

import "fmt"

// Roles of tokens.
const (
	TokenJoin  = "join"  // one use: lets a host become a member
	TokenAdmin = "admin" // API bearer token
	TokenRead  = "read"  // API bearer token that changes nothing
)

// Token is a secret's record. The secret itself is nowhere in the cluster.
type Token struct {
	ID         string `codec:"i" json:"id"`
	Role       string `codec:"r" json:"role"`
	SecretHash string `codec:"h" json:"-"`       // hex SHA-256 of the secret
	Expires    int64  `codec:"x" json:"expires"` // unix nanoseconds, 0 = never
	UsedBy     string `codec:"u" json:"used_by"`
	UsedAt     int64  `codec:"a" json:"used_at"`
	Created    int64  `codec:"c" json:"created"`
}

// TokenCreate records a new token.
type TokenCreate struct {
	base  `codec:"-"`
	Token Token `codec:"t"`
}

func (*TokenCreate) kind() kind { return kindTokenCreate }

func (c *TokenCreate) apply(t *tables, _ uint64) Outcome {
	k := c.Token
	if k.ID == "" || k.SecretHash == "" || (k.Role != TokenJoin && k.Role != TokenAdmin && k.Role != TokenRead) {
		return refuse(CodeInvalid, "a token needs an id, a secret's hash and one of the roles join, admin, read")
	}
	if old, ok := t.tokens.Get(k.ID); ok && old.SecretHash != k.SecretHash {
		return refuse(CodeExists, "a token with id "+k.ID+" exists")
	} else if ok {
		return Outcome{}
	}
	k.UsedBy, k.UsedAt = "", 0
	t.tokens.put(k.ID, k)
	return Outcome{}
}

// TokenUse marks a one-time token as used. HostJoin does this by itself.
type TokenUse struct {
	base `codec:"-"`
	ID   string `codec:"i"`
	Role string `codec:"r"`
	By   string `codec:"b"`
	Time int64  `codec:"t"`
}

func (*TokenUse) kind() kind { return kindTokenUse }

func (c *TokenUse) apply(t *tables, _ uint64) Outcome {
	k, ok := t.tokens.Get(c.ID)
	if out := checkToken(k, ok, c.Role, c.Time); out.Code != "" {
		return out
	}
	k.UsedBy, k.UsedAt = c.By, c.Time
	t.tokens.put(k.ID, k)
	return Outcome{}
}

// TokenRevoke deletes a token.
type TokenRevoke struct {
	base `codec:"-"`
	ID   string `codec:"i"`
}

func (*TokenRevoke) kind() kind { return kindTokenRevoke }

func (c *TokenRevoke) apply(t *tables, _ uint64) Outcome {
	if _, ok := t.tokens.remove(c.ID); !ok {
		return refuse(CodeTokenUnknown, "no token "+c.ID)
	}
	return Outcome{}
}

func checkToken(k Token, found bool, role string, now int64) Outcome {
	switch {
	case !found, k.Role != role:
		return refuse(CodeTokenUnknown, "the token is not known to this cluster; ask for a new one (holdfast operator token create)")
	case k.UsedBy != "":
		return refuse(CodeTokenUsed, fmt.Sprintf("the token was already used by %s; ask for a new one", k.UsedBy))
	case k.Expires != 0 && now >= k.Expires:
		return refuse(CodeTokenExpired, "the token has expired; ask for a new one")
	}
	return Outcome{}
}
