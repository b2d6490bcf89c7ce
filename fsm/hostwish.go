package fsm

import "fmt"

const (
	// WishMaintenance is the wish that nothing runs on a host. Without a wish the manager makes the host up when it is well.
	WishMaintenance = "maintenance"
	// WishByPolicy is who asked when it was the power-saving policy, not a person.
	WishByPolicy = "policy"
)

// Wish is what somebody wants of a host. An empty Want is none; By, Reason and Time then tell who took the last one back.
type Wish struct {
	Want   string `codec:"w" json:"want"`
	By     string `codec:"b,omitempty" json:"by,omitempty"`
	Reason string `codec:"r,omitempty" json:"reason,omitempty"`
	Time   int64  `codec:"t,omitempty" json:"time,omitempty"`
}

// HostWish records what an operator, or the power-saving policy, wants of a host: WishMaintenance or nothing. The policy
// neither takes over nor takes back what a person asked for.
type HostWish struct {
	base   `codec:"-"`
	Host   string  `codec:"h"`
	Want   string  `codec:"w"`
	Expect *string `codec:"x,omitempty"` // the wish that must still be recorded
	By     string  `codec:"b"`
	Reason string  `codec:"r"`
	Time   int64   `codec:"t"`
}

func (*HostWish) kind() kind { return kindHostWish }

func (c *HostWish) apply(t *tables, _ uint64) Outcome {
	h, ok := t.hosts.Get(c.Host)
	if !ok {
		return refuse(CodeNotFound, "no host named "+c.Host)
	}
	if c.Want != "" && c.Want != WishMaintenance {
		return refuse(CodeInvalid, fmt.Sprintf("cannot wish for %q: use %s or nothing", c.Want, WishMaintenance))
	}
	old := h.Wish
	if c.Expect != nil && *c.Expect != old.Want {
		return refuse(CodeConflict, fmt.Sprintf("the wish for host %s is %q now, not %q; look again", c.Host, old.Want, *c.Expect))
	}
	if c.By == WishByPolicy && old.Want != "" && old.By != WishByPolicy {
		return refuse(CodeConflict, fmt.Sprintf("%s wants host %s in %s; the policy leaves it so", old.By, c.Host, old.Want))
	}
	h.Wish = Wish{Want: c.Want, By: cut(c.By, maxName), Reason: cut(c.Reason, MaxReason), Time: c.Time}
	t.hosts.put(h.Name, h)
	return Outcome{HostID: h.HostID}
}
