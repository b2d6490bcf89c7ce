package fsm

import "fmt"

// Domain is a storage domain as the mirror knows it.
type Domain struct {
	ID         string   `codec:"i" json:"id"`
	Name       string   `codec:"n" json:"name"`
	Type       string   `codec:"t" json:"type"`
	Role       string   `codec:"r" json:"role"`
	Status     string   `codec:"s" json:"status"`
	Version    int      `codec:"v" json:"version"`
	Size       int64    `codec:"z" json:"size"`
	Free       int64    `codec:"f" json:"free"`
	ExtentSize int64    `codec:"x" json:"extent_size"`
	SectorSize int      `codec:"c" json:"sector_size"`
	LUNs       []string `codec:"l" json:"luns"`
	Epoch      uint64   `codec:"e" json:"epoch"`
	Seq        uint64   `codec:"q" json:"seq"`
	// Waiting is how many extensions wait for space on the SPM, Needed how many bytes they need together.
	Waiting int   `codec:"w,omitempty" json:"waiting,omitempty"`
	Needed  int64 `codec:"y,omitempty" json:"needed,omitempty"`

	// The manager's verdict, see DomainUpdate. Since is when Status last changed, Deadline when it will be left by itself
	// or an action is due, Failing the hosts that cannot reach the domain.
	Reason   string   `codec:"rs,omitempty" json:"reason,omitempty"`
	Since    int64    `codec:"st,omitempty" json:"since,omitempty"`
	Deadline int64    `codec:"dl,omitempty" json:"deadline,omitempty"`
	Failing  []string `codec:"fh,omitempty" json:"failing,omitempty"`
}

func (d Domain) stamp() Stamp { return Stamp{d.Epoch, d.Seq} }

// DomainPut adds or changes a domain as the SPM sees it. An older (epoch, seq) than the recorded one is refused. The
// role, the status and the rest of the verdict of a domain that is there stay: the SPM has no say in them.
type DomainPut struct {
	base   `codec:"-"`
	Domain Domain `codec:"d"`
}

func (*DomainPut) kind() kind { return kindDomainPut }

func (c *DomainPut) apply(t *tables, _ uint64) Outcome {
	if c.Domain.ID == "" {
		return refuse(CodeInvalid, "a domain needs an id")
	}
	old, ok := t.domains.Get(c.Domain.ID)
	if ok && c.Domain.stamp().Compare(old.stamp()) < 0 {
		return refuse(CodeStale, fmt.Sprintf("domain %s: (%d, %d) is older than (%d, %d)",
			old.ID, c.Domain.Epoch, c.Domain.Seq, old.Epoch, old.Seq))
	}
	if floor, gone := t.floors.Get(c.Domain.ID); !ok && gone && c.Domain.stamp().Compare(floor) <= 0 {
		return refuse(CodeStale, fmt.Sprintf("domain %s was removed at (%d, %d), later than (%d, %d)",
			c.Domain.ID, floor.Epoch, floor.Seq, c.Domain.Epoch, c.Domain.Seq))
	}
	t.domains.put(c.Domain.ID, c.described(t, old, ok))
	return Outcome{Epoch: c.Domain.Epoch}
}

// described is the domain as it is recorded.
func (c *DomainPut) described(t *tables, old Domain, known bool) Domain {
	if known {
		return c.Domain.keepVerdict(old)
	}
	d := c.Domain
	d.Status, d.Role, d.Reason = d.CurrentStatus(), t.firstRole(d), cut(d.Reason, MaxReason)
	d.Failing = hostNames(d.Failing)
	return d
}

// DomainRemove takes a domain and its volumes out of the mirror. Nothing older than its stamp can bring them back.
type DomainRemove struct {
	base  `codec:"-"`
	ID    string `codec:"i"`
	Epoch uint64 `codec:"e"`
	Seq   uint64 `codec:"q"`
}

func (*DomainRemove) kind() kind { return kindDomainRemove }

func (c *DomainRemove) apply(t *tables, _ uint64) Outcome {
	old, ok := t.domains.Get(c.ID)
	if !ok {
		return refuse(CodeNotFound, "no domain "+c.ID)
	}
	at := Stamp{c.Epoch, c.Seq}
	if at.Compare(old.stamp()) < 0 {
		return refuse(CodeStale, fmt.Sprintf("domain %s: (%d, %d) is older than (%d, %d)", c.ID, c.Epoch, c.Seq, old.Epoch, old.Seq))
	}
	var out Outcome
	for _, v := range t.volumesOf(c.ID) {
		t.dropVolume(v)
		out.Removed = append(out.Removed, v.ID)
	}
	t.domains.remove(c.ID)
	t.raiseFloor(c.ID, at)
	return out
}
