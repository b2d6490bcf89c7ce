package manager

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Status explains why the role is where it is, who would have it next, and what is awaited.
type Status struct {
	Leader  string        `json:"leader"`
	Host    string        `json:"host"` // who has the role, or holds its lease; empty: nobody
	HostID  int           `json:"host_id"`
	Epoch   uint64        `json:"epoch"`
	State   string        `json:"state"`
	Since   time.Time     `json:"since"`
	Desired string        `json:"desired"`
	Action  Action        `json:"action"`
	Row     Row           `json:"row"` // of the decision table
	Why     string        `json:"why"`
	Awaits  string        `json:"awaits,omitempty"`
	In      time.Duration `json:"in_ns,omitempty"` // countdown of Awaits; 0 unknown
	At      time.Time     `json:"at"`
	// Chosen is why the role went where it is, as it was said then.
	Chosen string `json:"chosen,omitempty"`
	// Next are the other hosts, the one first that would have the role next.
	Next []Heir `json:"next,omitempty"`
	// Moves says what would make the role move; empty while nobody has it.
	Moves []string `json:"moves,omitempty"`
}

// Heir is a host that could have the role, or cannot now.
type Heir struct {
	Host string        `json:"host"`
	Able bool          `json:"able"`
	Why  string        `json:"why"` // what speaks for it, or why it cannot
	In   time.Duration `json:"in_ns,omitempty"`
}

// explain publishes what the table said.
func (m *Manager) explain(view *fsm.State, in Inputs, d Decision) {
	pool, _ := view.Pool()
	st := Status{Leader: m.cfg.Host, Desired: pool.SPM.Desired, Action: d.Action, Row: d.Row, Why: d.Reason, At: m.cfg.Now(), State: RoleNone, Epoch: in.Lease.Version, Since: time.Unix(0, pool.SPM.Since)}
	if in.Lease.Known && in.Lease.Held {
		st.Host, st.HostID, st.State = in.ownerName(), in.Lease.Owner, RoleNone
		if h := in.byID(in.Lease.Owner); h != nil && h.Reachable {
			st.State = h.Role.State
		}
	}
	if st.State == RoleServing && pool.SPM.Host == st.Host {
		st.Chosen = pool.SPM.Reason
	}
	st.Next = heirs(&in)
	if x := in.byID(in.Lease.Owner); x != nil && st.State == RoleServing {
		st.Moves = wouldMove(&in, x)
	}
	st.Awaits, st.In = explained(&in, d)
	m.status.Store(&st)
}

// explained is what a decision waits for, and the countdown of that; 0: not known.
func explained(in *Inputs, d Decision) (string, time.Duration) {
	if d.Awaits == "" {
		return underWay(in, d)
	}
	return d.Awaits, d.In
}

// underWay is what an action that the table asks for waits for, and how long that takes at most.
func underWay(in *Inputs, d Decision) (string, time.Duration) {
	p := in.Policy
	switch d.Action {
	case ActStart:
		return d.Host + " to start", p.StartTimeout
	case ActStop:
		return d.Host + " to stop", p.StopTimeout
	case ActYield:
		return d.Host + "'s answer through the storage", p.YieldWait
	case ActFence:
		awaits, left := d.Host+"'s power to be confirmed off", time.Duration(0)
		if x := in.byName(d.Host); x != nil {
			var death string
			death, left = deathOf(in, x, in.Storage[d.HostID])
			awaits += ", or " + death
		}
		return awaits, left
	case ActFree:
		return d.Host + "'s host id to be freed on the disk", 0
	}
	return "", 0
}

// heirs are all hosts but the one that is in the role: those that can take it in their order, then the others by name.
func heirs(in *Inputs) []Heir {
	able, _ := candidates(in)
	out, known := make([]Heir, 0, len(in.Hosts)), make(map[string]bool, len(able))
	for i := range able {
		known[able[i].Name] = true
		out = append(out, Heir{Host: able[i].Name, Able: true, Why: merits(in, &able[i])})
	}
	for i := range in.Hosts {
		h := &in.Hosts[i]
		switch {
		case known[h.Name]:
		case unfit(h) != "":
			out = append(out, Heir{Host: h.Name, Why: unfit(h)})
		case h.Role.State == RoleNone:
			out = append(out, Heir{Host: h.Name, Why: fmt.Sprintf("failed to start %d times, and is not asked for a while", h.Failures), In: h.RetryIn})
		}
	}
	return out
}

// wouldMove says what would make the role leave x.
func wouldMove(in *Inputs, x *Host) []string {
	p := in.Policy
	out := []string{
		fmt.Sprintf("somebody asks for it: holdfast spm move, or holdfast host maintenance %s", x.Name),
		fmt.Sprintf("%s does not answer for %s: it is asked through the storage to hand over", x.Name, p.YieldAfter),
		fmt.Sprintf("%s and its lease keeper end, or are proven dead: its lease is free then", x.Name),
		fmt.Sprintf("%s cannot renew its lease for %s: it hands over if it still can, and stops writing at %s", x.Name, p.LeaseLife*3/4, p.LeaseLife),
		fmt.Sprintf("%s cannot read the master domain", x.Name),
	}
	reach := fmt.Sprintf("another host reaches an active domain that %s does not, for %s", x.Name, max(in.OutreachAfter, p.OutreachAfter))
	if len(x.Misses) > 0 && x.Reports {
		reach += " (it cannot reach " + strings.Join(x.Misses, ", ") + ")"
	}
	return append(out, reach)
}
