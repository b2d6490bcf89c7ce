package check

import (
	"errors"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Duels judges the orders to power switches.
//
//   - When an order comes, some agent's mirror has the committed intent of it: whoever gave it has read it there. Where an agent that
//     ran did not answer, and no other one has it, nothing can be said.
//   - The intent is of the present term: its leader had not known of a later one for a while.
//   - No two hosts order each other off: whoever was ordered off, and gives an order against the one that gave it, has been off in
//     between, or the operation on it has ended.
func Duels(r Record) history.Verdict {
	const name = "duels"
	s, err := loadPower(r)
	if err != nil {
		return failed(name, err)
	}
	c := duelCheck{story: s, samples: r.Samples}
	for _, p := range s.asked {
		if p.Kind != history.PowerAskStatus {
			c.order(p)
		}
	}
	c.pairs()
	if c.all == 0 && slices.ContainsFunc(r.Faults, ordered) {
		return failed(name, errors.New("no order came to any switch, although the pool was asked to switch a host off and did"))
	}
	return c.found.verdict(name, "%d orders to switches, %d of them off; of %d nobody who answered knew", c.all, len(c.offs), c.unknown)
}

// ordered reports whether a fault was an order that the pool surely gave: others hang a host, and may be over before it is fenced.
func ordered(f history.Fault) bool { return f.Error == "" && f.Kind == "power.off" }

// strike is an order to switch a host off, and the intent that it stands on.
type strike struct {
	history.Power
	by history.Intent
}

// duelCheck goes through the orders once.
type duelCheck struct {
	story   *powerStory
	samples []history.Sample
	offs    []strike
	found   findings

	all, unknown int
}

// order looks for the intent that an order stands on.
func (c *duelCheck) order(p history.Power) {
	c.all++
	i := slices.IndexFunc(p.Intents, func(n history.Intent) bool { return n.Order == p.Kind })
	switch {
	case i < 0 && len(p.Silent) > 0:
		c.unknown++
		return
	case i < 0:
		c.found.add("the switch of %s got the order %s at %s, and no host had its intent committed", p.Host, p.Kind, at(p.At))
		return
	}
	for _, n := range p.Intents { // of several operations the newest
		if n.Order == p.Kind && n.Op > p.Intents[i].Op {
			p.Intents[i] = n
		}
	}
	by := p.Intents[i]
	if by.Leader == "" || by.Through == p.Host {
		c.found.add("the order %s to the switch of %s at %s stands on an intent of leader %q through %q", p.Kind, p.Host, at(p.At), by.Leader, by.Through)
	}
	if p.Kind != history.PowerOrderOff || c.story.wasOff(p.Host, p.At, p.At) {
		return // whatever is off is asked for its evidence by another order
	}
	if later := c.later(by, p.At-inFlight); later > 0 {
		c.found.add("%s was ordered off at %s by the intent of term %d, whose leader %s knew of term %d for longer than an order is on its way", p.Host, at(p.At), by.Term, by.Leader, later)
	}
	c.offs = append(c.offs, strike{p, by})
}

// inFlight bounds how long an order may be on its way from the leader's last look to the switch: the proxy waits for its mirror, and
// asks for the status first.
const inFlight = 15 * time.Second

// later is the newest term that an intent's leader knew of at a moment, if it was newer than the intent's; else 0.
func (c *duelCheck) later(by history.Intent, t time.Duration) (term uint64) {
	for _, s := range c.samples {
		if s.Host == by.Leader && s.At <= t && s.Term > by.Term {
			term = max(term, s.Term)
		}
	}
	return term
}

// pairs looks for two hosts that order each other off.
func (c *duelCheck) pairs() {
	for i, a := range c.offs {
		for _, b := range c.offs[i+1:] {
			if gave(b, a.Host) && gave(a, b.Host) && !c.apart(a, b) {
				c.found.add("%s and %s ordered each other off: %s was ordered off at %s (operation %s), and ordered %s off at %s (operation %s)", a.Host, b.Host,
					a.Host, at(a.At), a.by.Op, b.Host, at(b.At), b.by.Op)
			}
		}
	}
}

// gave reports whether a host is behind an order.
func gave(s strike, host string) bool { return s.by.Leader == host || s.by.Through == host }

// apart reports whether the first of two orders was over when the second was given: whoever it was against has been off since, or the
// operation has ended.
func (c *duelCheck) apart(a, b strike) bool {
	for _, i := range c.story.off[a.Host] {
		if i.from >= a.At && i.to <= b.At {
			return true
		}
	}
	i := slices.IndexFunc(c.story.ops, func(op api.FenceOp) bool { return op.ID == a.by.Op })
	return i >= 0 && !c.story.ops[i].Ended.IsZero() && c.story.run(c.story.ops[i].Ended) < b.At
}
