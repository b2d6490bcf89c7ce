package fsm

import (
	"fmt"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// States of the SPM role.
const (
	SPMNone     = "none"
	SPMStarting = "starting"
	SPMServing  = "serving"
	SPMStopping = "stopping"
)

// What an operator may want of the SPM role; a wish for one host is DesireHost + its name.
const (
	DesireAny     = "any"
	DesireStopped = "stopped"
	DesireHost    = "host:"
)

// Pool is the set of domains under one SPM.
type Pool struct {
	ID      string `codec:"i" json:"id"`
	Name    string `codec:"n" json:"name"`
	Master  string `codec:"m" json:"master"` // id of the master domain
	Profile string `codec:"p" json:"profile"`
	SPM     SPM    `codec:"s" json:"spm"`
	Created int64  `codec:"c" json:"created"`
	// Test says that faults may be injected. It is given when the pool is made, and never later.
	Test bool `codec:"t,omitempty" json:"test_pool,omitempty"`

	// MasterVersion grows with each change of the master; 0 in a pool whose master never changed.
	MasterVersion int            `codec:"mv,omitempty" json:"master_version,omitempty"`
	MasterSince   int64          `codec:"ms,omitempty" json:"master_since,omitempty"`
	Former        []FormerMaster `codec:"fm,omitempty" json:"former,omitempty"` // oldest first
}

// SPM is what the cluster last heard about the role. The lease on the master domain is the truth.
type SPM struct {
	Host    string `codec:"h" json:"host"`
	HostID  int    `codec:"i" json:"host_id"`
	Epoch   uint64 `codec:"e" json:"epoch"`
	State   string `codec:"s" json:"state"`
	Since   int64  `codec:"t" json:"since"`
	Reason  string `codec:"r" json:"reason"`
	Desired string `codec:"d" json:"desired"`
}

// PoolCreate records the cluster's one pool. The same pool again is accepted; another one is not.
type PoolCreate struct {
	base `codec:"-"`
	Pool Pool  `codec:"p"`
	Time int64 `codec:"t"`
}

func (*PoolCreate) kind() kind { return kindPoolCreate }

func (c *PoolCreate) apply(t *tables, _ uint64) Outcome {
	if c.Pool.ID == "" {
		return refuse(CodeInvalid, "a pool needs an id")
	}
	for id, p := range t.pools.All() {
		if id == c.Pool.ID {
			return Outcome{Epoch: p.SPM.Epoch}
		}
		return refuse(CodeExists, fmt.Sprintf("this cluster already manages pool %s (%s)", p.Name, id))
	}
	p := c.Pool
	p.Created, p.SPM.Since = c.Time, c.Time
	if p.SPM.State == "" {
		p.SPM.State = SPMNone
	}
	if p.SPM.Desired == "" {
		p.SPM.Desired = DesireAny
	}
	t.pools.put(p.ID, p)
	return Outcome{Epoch: p.SPM.Epoch}
}

// SPMUpdate records a change of the role if the recorded epoch is still ExpectEpoch. The epoch never goes back, and
// the operator's wish (Desired) is not touched.
type SPMUpdate struct {
	base        `codec:"-"`
	Pool        string `codec:"p"`
	ExpectEpoch uint64 `codec:"x"`
	SPM         SPM    `codec:"s"`
	Time        int64  `codec:"t"`
}

func (*SPMUpdate) kind() kind { return kindSPMUpdate }

func (c *SPMUpdate) apply(t *tables, _ uint64) Outcome {
	p, ok := t.pools.Get(c.Pool)
	if !ok {
		return refuse(CodeNotFound, "no pool "+c.Pool)
	}
	if p.SPM.Epoch != c.ExpectEpoch {
		return Outcome{Code: CodeConflict, Epoch: p.SPM.Epoch,
			Message: fmt.Sprintf("the SPM epoch is %d (%s), not %d", p.SPM.Epoch, p.SPM.Host, c.ExpectEpoch)}
	}
	if c.SPM.Epoch < p.SPM.Epoch && !plant.On(plant.NoEpochCheck) {
		return Outcome{Code: CodeStale, Epoch: p.SPM.Epoch,
			Message: fmt.Sprintf("SPM epoch %d is older than %d", c.SPM.Epoch, p.SPM.Epoch)}
	}
	next := c.SPM
	next.Desired, next.Since = p.SPM.Desired, p.SPM.Since
	if next.State != p.SPM.State || next.Host != p.SPM.Host || next.Epoch != p.SPM.Epoch {
		next.Since = c.Time
	}
	p.SPM = next
	t.pools.put(p.ID, p)
	return Outcome{Epoch: p.SPM.Epoch}
}

// SPMDesire records what an operator wants of the role: DesireAny, DesireStopped or DesireHost + name.
type SPMDesire struct {
	base    `codec:"-"`
	Pool    string `codec:"p"`
	Desired string `codec:"d"`
	// Expect, when set, is the wish that must still be recorded: taking a fulfilled wish back must not undo the next one.
	Expect string `codec:"x,omitempty"`
	Time   int64  `codec:"t"`
}

func (*SPMDesire) kind() kind { return kindSPMDesire }

func (c *SPMDesire) apply(t *tables, _ uint64) Outcome {
	p, ok := t.pools.Get(c.Pool)
	if !ok {
		return refuse(CodeNotFound, "no pool "+c.Pool)
	}
	if c.Expect != "" && p.SPM.Desired != c.Expect {
		return refuse(CodeConflict, fmt.Sprintf("the wish is %q now, not %q", p.SPM.Desired, c.Expect))
	}
	if c.Desired != DesireAny && c.Desired != DesireStopped {
		name, isHost := hostWish(c.Desired)
		if _, member := t.hosts.Get(name); !isHost || !member {
			return refuse(CodeInvalid, fmt.Sprintf("cannot wish for %q: use any, stopped or host: and a member's name", c.Desired))
		}
	}
	p.SPM.Desired = c.Desired
	t.pools.put(p.ID, p)
	return Outcome{Epoch: p.SPM.Epoch}
}

func hostWish(desired string) (string, bool) {
	if len(desired) > len(DesireHost) && desired[:len(DesireHost)] == DesireHost {
		return desired[len(DesireHost):], true
	}
	return "", false
}

// DesiredHost is the host that an operator wants to be SPM; false when there is no such wish.
func (s SPM) DesiredHost() (string, bool) { return hostWish(s.Desired) }
