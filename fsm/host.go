package fsm

import (
	"fmt"
	"regexp"
)

// MaxHostID is the highest host id given out. 0 is the lockspace's event block and 250 is left to tools.
const MaxHostID = 249

// Host is a member of the cluster.
type Host struct {
	Name       string        `codec:"n" json:"name"`
	HostID     int           `codec:"i" json:"host_id"`
	Address    string        `codec:"a" json:"address"` // host:port of raft and RPC
	Gossip     string        `codec:"g" json:"gossip"`
	HTTP       string        `codec:"h" json:"http"`
	State      string        `codec:"s" json:"state"`
	Reason     string        `codec:"r" json:"reason"`
	Since      int64         `codec:"t" json:"since"`      // when State last changed
	Generation uint64        `codec:"e" json:"generation"` // of its host id in the master's lockspace
	Priority   int           `codec:"p" json:"priority"`
	Protocol   ProtocolRange `codec:"v" json:"protocol"`
	Joined     int64         `codec:"j" json:"joined"`
	KeyHash    string        `codec:"k" json:"-"` // SHA-256 of the public key that it joined with

	// Watchdog is what resets the machine when users outlive its leases; WatchdogTime is how long after the expiry at the
	// latest, in seconds.
	Watchdog     string `codec:"w,omitempty" json:"watchdog,omitempty"`
	WatchdogTime int    `codec:"wt,omitempty" json:"watchdog_time,omitempty"`

	// Deadline is when the state will be left by itself or an action is due; 0 when nothing is.
	Deadline  int64     `codec:"dl,omitempty" json:"deadline,omitempty"`
	Wish      Wish      `codec:"ws,omitempty" json:"wish,omitzero"`
	Witnesses []Witness `codec:"wn,omitempty" json:"witnesses,omitempty"` // sorted by kind and subject
}

// Kinds of Watchdog. An empty one is not known: the host has not said, or its program knows none.
const (
	WatchdogDevice = "device"
	WatchdogWdmd   = "wdmd"
	WatchdogNone   = "none"
)

// Protected says whether the machine is reset when its leases run out under somebody.
func (h Host) Protected() bool { return h.Watchdog == WatchdogDevice || h.Watchdog == WatchdogWdmd }

// RemovedHost remembers a host that is no member any more, so that its certificate is refused.
type RemovedHost struct {
	Name       string `codec:"n" json:"name"`
	HostID     int    `codec:"i" json:"host_id"`
	Generation uint64 `codec:"e" json:"generation"`
	Time       int64  `codec:"t" json:"time"`
	KeyHash    string `codec:"k" json:"-"`
}

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// CheckHostName says why a name cannot be a host's.
func CheckHostName(name string) error {
	if hostName.MatchString(name) {
		return nil
	}
	return &RefusedError{Code: CodeInvalid, Message: fmt.Sprintf(
		"host name %q: use 1 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends", name)}
}

// ClusterInit is the first command of a cluster. It makes the first host a member with host id 1.
type ClusterInit struct {
	base        `codec:"-"`
	ClusterID   string `codec:"i"`
	ClusterName string `codec:"n"`
	Version     int    `codec:"v"`
	Host        Host   `codec:"h"`
	Time        int64  `codec:"t"`
}

func (*ClusterInit) kind() kind { return kindClusterInit }

func (c *ClusterInit) apply(t *tables, _ uint64) Outcome {
	if t.meta.ClusterID != "" && t.meta.ClusterID != c.ClusterID {
		return refuse(CodeNotReady, "this cluster is already initialised as "+t.meta.ClusterID)
	}
	if h, ok := t.hosts.Get(c.Host.Name); ok && t.meta.ClusterID != "" {
		return Outcome{HostID: h.HostID}
	}
	if c.ClusterID == "" || c.Version < 1 {
		return refuse(CodeInvalid, "a cluster needs an id and a version of at least 1")
	}
	if err := CheckHostName(c.Host.Name); err != nil {
		return refuse(CodeInvalid, err.Error())
	}
	t.meta = Meta{ClusterID: c.ClusterID, ClusterName: c.ClusterName, Created: c.Time, Version: c.Version, NextHostID: 1}
	return t.admit(c.Host, c.Time)
}

// HostJoin makes a host a member, gives out its host id and uses up its join token, all in one step.
// The same key with the same token again is a retry and gets the same answer.
type HostJoin struct {
	base    `codec:"-"`
	Host    Host   `codec:"h"`
	TokenID string `codec:"k"`
	Time    int64  `codec:"t"`
}

func (*HostJoin) kind() kind { return kindHostJoin }

func (c *HostJoin) apply(t *tables, _ uint64) Outcome {
	if t.meta.ClusterID == "" {
		return refuse(CodeNotReady, "the cluster is not initialised")
	}
	if err := CheckHostName(c.Host.Name); err != nil {
		return refuse(CodeInvalid, err.Error())
	}
	tok, ok := t.tokens.Get(c.TokenID)
	if ok && tok.UsedBy == c.Host.Name {
		if h, ok := t.hosts.Get(c.Host.Name); ok && h.KeyHash != "" && h.KeyHash == c.Host.KeyHash {
			return Outcome{HostID: h.HostID}
		}
	}
	if out := checkToken(tok, ok, TokenJoin, c.Time); out.Code != "" {
		return out
	}
	if _, taken := t.hosts.Get(c.Host.Name); taken {
		return refuse(CodeExists, fmt.Sprintf("a host named %s is already a member; choose another name, or remove it first", c.Host.Name))
	}
	if !c.Host.Protocol.Speaks(t.meta.Version) {
		return refuse(CodeConflict, fmt.Sprintf("host %s does not speak cluster version %d; install a program that does",
			c.Host.Name, t.meta.Version))
	}
	out := t.admit(c.Host, c.Time)
	if out.Code == "" {
		tok.UsedBy, tok.UsedAt = c.Host.Name, c.Time
		t.tokens.put(tok.ID, tok)
	}
	return out
}

// admit gives h the next host id: one never given out as long as there is one, then the lowest that became free. An id
// becomes free by HostRemove only, which demands proof.
func (t *tables) admit(h Host, now int64) Outcome {
	id := t.freeHostID()
	if id == 0 {
		return refuse(CodeFull, fmt.Sprintf("all %d host ids are in use; remove a host first", MaxHostID))
	}
	h.HostID, h.Joined, h.Since = id, now, now
	h.Deadline, h.Wish, h.Witnesses = 0, Wish{}, nil // the manager's to say, not the host's
	h.Reason = cut(h.Reason, MaxReason)
	if h.State == "" {
		h.State = HostJoining
	}
	t.hosts.put(h.Name, h)
	t.removed.remove(h.Name)
	return Outcome{HostID: id}
}

func (t *tables) freeHostID() int {
	if t.meta.NextHostID <= MaxHostID {
		t.meta.NextHostID++
		return t.meta.NextHostID - 1
	}
	used := map[int]bool{}
	for _, h := range t.hosts.All() {
		used[h.HostID] = true
	}
	for id := 1; id <= MaxHostID; id++ {
		if !used[id] {
			return id
		}
	}
	return 0
}

// HostUpdate changes the fields that are not nil.
type HostUpdate struct {
	base       `codec:"-"`
	Name       string         `codec:"n"`
	State      *string        `codec:"s,omitempty"`
	Reason     *string        `codec:"r,omitempty"`
	Generation *uint64        `codec:"e,omitempty"`
	Address    *string        `codec:"a,omitempty"`
	Gossip     *string        `codec:"g,omitempty"`
	HTTP       *string        `codec:"h,omitempty"`
	Priority   *int           `codec:"p,omitempty"`
	Protocol   *ProtocolRange `codec:"v,omitempty"`
	Time       int64          `codec:"t"`

	Watchdog     *string `codec:"w,omitempty"`
	WatchdogTime *int    `codec:"wt,omitempty"`

	// Deadline ends with the state: a change of State without one leaves none.
	Deadline  *int64     `codec:"dl,omitempty"`
	Witnesses *[]Witness `codec:"wn,omitempty"` // all of them

	// Space is the lockspace that Generation was seen in. When the pool has another master by now it says nothing.
	Space string `codec:"sp,omitempty"`
}

func (*HostUpdate) kind() kind { return kindHostUpdate }

func (c *HostUpdate) apply(t *tables, _ uint64) Outcome {
	h, ok := t.hosts.Get(c.Name)
	if !ok {
		return refuse(CodeNotFound, "no host named "+c.Name)
	}
	if master := t.masterID(); c.Generation != nil && c.Space != "" && c.Space != master {
		return refuse(CodeStale, fmt.Sprintf("host %s: generation %d is that of lockspace %s, and the master is %s now", c.Name, *c.Generation, c.Space, master))
	}
	if c.Generation != nil && *c.Generation < h.Generation {
		return refuse(CodeStale, fmt.Sprintf("host %s: generation %d is older than %d", c.Name, *c.Generation, h.Generation))
	}
	if c.Protocol != nil && !c.Protocol.Speaks(t.meta.Version) {
		return refuse(CodeConflict, fmt.Sprintf("host %s would not speak cluster version %d", c.Name, t.meta.Version))
	}
	if c.State != nil && *c.State != h.State {
		h.Since, h.Deadline = c.Time, 0
	}
	set(&h.State, c.State)
	set(&h.Reason, c.Reason)
	h.Reason = cut(h.Reason, MaxReason)
	set(&h.Generation, c.Generation)
	set(&h.Address, c.Address)
	set(&h.Gossip, c.Gossip)
	set(&h.HTTP, c.HTTP)
	set(&h.Priority, c.Priority)
	set(&h.Protocol, c.Protocol)
	set(&h.Watchdog, c.Watchdog)
	set(&h.WatchdogTime, c.WatchdogTime)
	set(&h.Deadline, c.Deadline)
	if c.Witnesses != nil {
		h.Witnesses = witnesses(*c.Witnesses)
	}
	t.hosts.put(h.Name, h)
	return Outcome{HostID: h.HostID}
}

func set[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

// HostRemove ends a membership and frees the host id. It demands proof that the host cannot write any more: the one in
// the command, or one recorded before for the host's present generation or a later one.
type HostRemove struct {
	base  `codec:"-"`
	Name  string `codec:"n"`
	Proof *Proof `codec:"p,omitempty"`
	Time  int64  `codec:"t"`
}

func (*HostRemove) kind() kind { return kindHostRemove }

func (c *HostRemove) apply(t *tables, _ uint64) Outcome {
	h, ok := t.hosts.Get(c.Name)
	if !ok {
		return refuse(CodeNotFound, "no host named "+c.Name)
	}
	if c.Proof != nil && c.Proof.covers(h, t.pool()) {
		t.addProof(*c.Proof)
	} else if !t.proven(h) {
		return refuse(CodeProofRequired, fmt.Sprintf(
			"host %s (id %d, generation %d) is not proven to be unable to write; fence it or confirm its reboot first",
			h.Name, h.HostID, h.Generation))
	}
	t.hosts.remove(h.Name)
	t.forgetPower(h.Name, c.Time)
	t.removed.put(h.Name, RemovedHost{Name: h.Name, HostID: h.HostID, Generation: h.Generation, Time: c.Time, KeyHash: h.KeyHash})
	for t.removed.Len() > maxRemoved {
		t.removed.removeFirst()
	}
	return Outcome{HostID: h.HostID}
}

// maxRemoved bounds the list of removed hosts; four times as many as there can be hosts.
const maxRemoved = 1000
