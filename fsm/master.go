package fsm

import (
	"fmt"
	"strings"
)

// Roles of a domain in the pool.
const (
	RoleMaster  = "master"
	RoleRegular = "regular"
)

// FormerMaster is a domain that was the pool's master once.
type FormerMaster struct {
	Domain  string `codec:"d" json:"domain"`
	Version int    `codec:"v" json:"version"` // the pool's master version while it was
	Until   int64  `codec:"u" json:"until"`
	// Abandoned says that it was lost, not handed over: it may still call itself master when it comes back.
	Abandoned bool `codec:"a,omitempty" json:"abandoned,omitempty"`
}

// maxFormer bounds the former masters that are remembered.
const maxFormer = 16

// PoolMaster makes another domain the pool's master, if the master is still Expect. MasterVersion must grow. The roles
// of both domains change in the same entry. The same change again is accepted.
type PoolMaster struct {
	base          `codec:"-"`
	Pool          string `codec:"p"`
	Master        string `codec:"m"`
	Expect        string `codec:"x"`
	MasterVersion int    `codec:"v"`
	Host          string `codec:"h"` // the host that wrote it to the disk
	By            string `codec:"b"`
	Reason        string `codec:"r"`
	// Abandoned says that the old master was lost and did not hand over.
	Abandoned bool `codec:"a,omitempty"`
	// Force takes a domain that is not known to be reachable. Never one in maintenance, or on the way into it.
	Force bool  `codec:"f,omitempty"`
	Time  int64 `codec:"t"`
	// Confirmed is, when the old master is abandoned, what ConfigMasterConfirmed was before anybody was looked at to see whether it
	// still writes. An SPM that has asked since has done so with its host id held in a further domain, where it may have been dead then.
	Confirmed string `codec:"c,omitempty"`
}

func (*PoolMaster) kind() kind { return kindPoolMaster }

func (c *PoolMaster) apply(t *tables, index uint64) Outcome {
	p, ok := t.pools.Get(c.Pool)
	if !ok {
		return refuse(CodeNotFound, "no pool "+c.Pool)
	}
	if p.Master == c.Master && p.MasterVersion == c.MasterVersion {
		return Outcome{}
	}
	if out := c.check(t, p); out.Code != "" {
		return out
	}
	if p.Master != "" {
		p.Former = append(append([]FormerMaster(nil), p.Former...),
			FormerMaster{Domain: p.Master, Version: p.MasterVersion, Until: c.Time, Abandoned: c.Abandoned})
		p.Former = p.Former[max(0, len(p.Former)-maxFormer):]
	}
	t.setRole(p.Master, RoleRegular)
	t.setRole(c.Master, RoleMaster)
	p.Master, p.MasterVersion, p.MasterSince = c.Master, c.MasterVersion, max(c.Time, t.latestProof()+1)
	t.pools.put(p.ID, p)
	t.forgetGenerations()
	t.addEvent(index, c.event(t))
	return Outcome{}
}

// check says why the master may not be changed so.
func (c *PoolMaster) check(t *tables, p Pool) Outcome {
	if p.Master != c.Expect {
		return refuse(CodeConflict, fmt.Sprintf("the master of pool %s is %s now, not %s; look again", p.Name, p.Master, c.Expect))
	}
	if c.MasterVersion <= p.MasterVersion {
		return refuse(CodeStale, fmt.Sprintf("master version %d is not newer than %d", c.MasterVersion, p.MasterVersion))
	}
	if now, _ := t.config.Get(ConfigMasterConfirmed); c.Abandoned && now != c.Confirmed {
		return refuse(CodeConflict, "a host made sure of the present master while that was being given up; look at all hosts again")
	}
	d, ok := t.domains.Get(c.Master)
	if !ok {
		return refuse(CodeNotFound, fmt.Sprintf("no domain %s; only a domain of the pool can become its master", c.Master))
	}
	switch status := d.CurrentStatus(); status {
	case DomainActive, DomainUnknown:
		return Outcome{}
	case DomainPreparing, DomainMaintenance:
		return refuse(CodeConflict, fmt.Sprintf("domain %s is in %s and cannot become the master; activate it first", d.Name, status))
	default:
		if c.Force {
			return Outcome{}
		}
		return refuse(CodeConflict, fmt.Sprintf("domain %s is %s and cannot become the master; take one that is active, or force", d.Name, status))
	}
}

// event tells of the change in the same entry, so that it cannot be missed.
func (c *PoolMaster) event(t *tables) Event {
	name := c.Master
	if d, ok := t.domains.Get(c.Master); ok && d.Name != "" {
		name = d.Name
	}
	severity, how := Info, "handed over"
	if c.Abandoned {
		severity, how = Warning, "was abandoned"
	}
	return Event{Time: c.Time, Kind: "pool.master", Severity: severity, Host: c.Host, Subject: c.Master, Reason: c.Reason,
		Message: fmt.Sprintf("domain %s is the master now, version %d; the one before (%s) %s; by %s", name, c.MasterVersion, c.Expect, how, cut(c.By, maxName))}
}

// forgetGenerations is for a new master: a host's generation is that in the master's lockspace, and each lockspace counts its own.
// The leader records the new ones as it hears them.
func (t *tables) forgetGenerations() {
	for _, h := range t.hosts.Values() {
		if h.Generation != 0 {
			h.Generation = 0
			t.hosts.put(h.Name, h)
		}
	}
}

// latestProof is the time of the last proof, by whoever's clock. The present master is later than every proof that came before it.
func (t *tables) latestProof() int64 {
	var last int64
	for _, p := range t.proofs.All() {
		last = max(last, p.Time)
	}
	return last
}

// pool is the one pool; zero when there is none.
func (t *tables) pool() Pool {
	for _, p := range t.pools.All() {
		return p
	}
	return Pool{}
}

// masterID is the pool's master; empty when there is none.
func (t *tables) masterID() string { return t.pool().Master }

func (t *tables) setRole(domain, role string) {
	if d, ok := t.domains.Get(domain); ok {
		d.Role = role
		t.domains.put(d.ID, d)
	}
}

// isMaster says whether a domain is the master of the pool.
func (t *tables) isMaster(domain string) bool {
	for _, p := range t.pools.All() {
		return p.Master == domain
	}
	return false
}

// firstRole is the role of a domain that was not recorded before: what it says of itself, unless the pool knows better. A
// lost master that comes back still calls itself master.
func (t *tables) firstRole(d Domain) string {
	for _, p := range t.pools.All() {
		switch {
		case p.Master == "":
		case p.Master == d.ID:
			return RoleMaster
		case strings.EqualFold(d.Role, RoleMaster):
			return RoleRegular
		}
	}
	return d.Role
}
