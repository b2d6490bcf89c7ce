package fsm

import (
	"fmt"
	"slices"
)

// Status of a domain: the manager's verdict. An empty one, of older programs, is DomainActive.
const (
	DomainActive      = "active"
	DomainInactive    = "inactive" // no host that reports can reach it
	DomainUnknown     = "unknown"  // nobody reports
	DomainPreparing   = "preparing_maintenance"
	DomainMaintenance = "maintenance"
	DomainActivating  = "activating"
)

var domainStatuses = []string{DomainActive, DomainInactive, DomainUnknown, DomainPreparing, DomainMaintenance, DomainActivating}

// CurrentStatus is the domain's status in today's words.
func (d Domain) CurrentStatus() string {
	if d.Status == "" {
		return DomainActive
	}
	return d.Status
}

// DomainUpdate records the manager's verdict about a domain: what is not nil changes. A changed Status takes a new Since,
// and the old one's Reason and Deadline end with it. The pool's master cannot go into maintenance.
type DomainUpdate struct {
	base     `codec:"-"`
	ID       string    `codec:"i"`
	Status   *string   `codec:"s,omitempty"`
	Reason   *string   `codec:"r,omitempty"`
	Deadline *int64    `codec:"dl,omitempty"`
	Failing  *[]string `codec:"fh,omitempty"` // hosts that cannot reach it
	Expect   *string   `codec:"x,omitempty"`  // the status that must still be recorded
	Time     int64     `codec:"t"`
}

func (*DomainUpdate) kind() kind { return kindDomainUpdate }

func (c *DomainUpdate) apply(t *tables, _ uint64) Outcome {
	d, ok := t.domains.Get(c.ID)
	if !ok {
		return refuse(CodeNotFound, "no domain "+c.ID)
	}
	if out := c.check(t, d); out.Code != "" {
		return out
	}
	if c.Status != nil && *c.Status != d.CurrentStatus() {
		d.Since, d.Reason, d.Deadline = c.Time, "", 0
	}
	set(&d.Status, c.Status)
	set(&d.Reason, c.Reason)
	d.Reason = cut(d.Reason, MaxReason)
	set(&d.Deadline, c.Deadline)
	if c.Failing != nil {
		d.Failing = hostNames(*c.Failing)
	}
	t.domains.put(d.ID, d)
	return Outcome{}
}

// check says why the verdict may not be recorded.
func (c *DomainUpdate) check(t *tables, d Domain) Outcome {
	if c.Expect != nil && *c.Expect != d.CurrentStatus() {
		return refuse(CodeConflict, fmt.Sprintf("domain %s is %s now, not %s; look again", d.Name, d.CurrentStatus(), *c.Expect))
	}
	if c.Status == nil {
		return Outcome{}
	}
	if !slices.Contains(domainStatuses, *c.Status) {
		return refuse(CodeInvalid, fmt.Sprintf("a domain cannot be %q: use one of %v", *c.Status, domainStatuses))
	}
	if (*c.Status == DomainPreparing || *c.Status == DomainMaintenance) && t.isMaster(d.ID) {
		return refuse(CodeConflict, fmt.Sprintf("domain %s is the master; make another domain the master first (holdfast domain set-master)", d.Name))
	}
	return Outcome{}
}

// hostNames is a list of hosts as it is recorded: sorted, each once, no more than there can be hosts.
func hostNames(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	out = slices.Compact(out)
	out = out[:min(len(out), MaxHostID)]
	for i, name := range out {
		out[i] = cut(name, maxName)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// keepVerdict gives a domain that the SPM describes anew what the SPM has no say in.
func (d Domain) keepVerdict(old Domain) Domain {
	d.Status, d.Role = old.CurrentStatus(), old.Role
	d.Reason, d.Since, d.Deadline, d.Failing = old.Reason, old.Since, old.Deadline, old.Failing
	return d
}
