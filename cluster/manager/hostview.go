package manager

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// mark is what a term remembers of a host to record its state. Only the term's loop uses it.
type mark struct {
	ill           string
	illAt, wellAt time.Time
	state         string
	flaps         []time.Time // when it stopped being up
	tokens        int         // changes that may still be committed without a change of state
	tokenAt       time.Time   // of the last one given
}

// A host whose state stays may change reason, deadline and witnesses tokenBurst times at once, and then once in tokenEvery: one that
// flutters does not fill the log. Changes of state are not held back; they become rarer by themselves, see steadyNeed.
const (
	tokenBurst = 4
	tokenEvery = 5 * time.Second
)

// refill gives the tokens that time has earned.
func (m *mark) refill(now time.Time) {
	if m.tokenAt.IsZero() {
		m.tokens, m.tokenAt = tokenBurst, now
	}
	for m.tokens < tokenBurst && now.Sub(m.tokenAt) >= tokenEvery {
		m.tokens, m.tokenAt = m.tokens+1, m.tokenAt.Add(tokenEvery)
	}
	if m.tokens == tokenBurst {
		m.tokenAt = now
	}
}

// A host that stops being up again and again has to be well for longer each time, until it was up for flapMemory.
const flapMemory = 10 * time.Minute

// follow takes over what is committed and what is seen now.
func (m *mark) follow(h fsm.Host, ill string, now time.Time) {
	if m.state == fsm.HostUp && away(h.CurrentState()) {
		m.flaps = append(m.flaps, now)
	}
	m.state = h.CurrentState()
	m.flaps = slices.DeleteFunc(m.flaps, func(at time.Time) bool { return now.Sub(at) > flapMemory })
	m.refill(now)
	switch {
	case ill == "" && (m.wellAt.IsZero() || m.ill != ""):
		m.wellAt = now
	case ill != "" && (m.illAt.IsZero() || m.ill == ""):
		m.illAt = now
	}
	m.ill = ill
}

// away tells the states into which a host falls that came and will perhaps come back.
func away(state string) bool {
	return state == fsm.HostConnecting || state == fsm.HostNonResponsive || state == fsm.HostIsolated || state == fsm.HostNonOperational
}

// hostView makes what NextHost looks at.
func (t *term) hostView(h fsm.Host, f *Host, in *Inputs, trouble Trouble) HostView {
	now := t.m.cfg.Now()
	m := t.marks[h.Name]
	if m == nil {
		m = &mark{}
		t.marks[h.Name] = m
	}
	ill, own := "", ""
	if f.Reachable {
		own = illness(in, f)
		ill = cmp.Or(own, trouble.Reason)
	}
	m.follow(h, ill, now)
	v := HostView{Committed: h, Now: now, Policy: in.Policy, Seen: *f, Storage: in.Storage[h.HostID], Flaps: len(m.flaps),
		Ill: ill, IllAfter: in.Policy.TroubleAfter, Fencing: t.fenceSays(h.Name), Fenced: t.fencedInVain(h), HasRole: hasRole(in, f)}
	switch {
	case ill == "":
		v.WellFor = now.Sub(m.wellAt)
	case own == "" && h.State == fsm.HostUp: // whose guests still run on the other domains
		v.IllFor, v.IllAfter = trouble.For, in.Policy.Domains.Failure
	default:
		v.IllFor = now.Sub(m.illAt)
	}
	if v.HasRole {
		v.NoHeir = noHeir(in, f)
	}
	t.seenOf(&v)
	return v
}

// seenOf adds what the sighting and the lockspaces say.
func (t *term) seenOf(v *HostView) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, id := v.Committed.Name, v.Committed.HostID
	v.LastAnswer, v.Renewed = t.start, t.spaces.latest(id)
	if d := t.disk.hosts[id]; d.status != Free {
		v.Renewed = later(v.Renewed, d.changed)
	}
	s := t.hosts[name]
	if s == nil {
		return
	}
	v.Answer, v.LastAnswer = s.since, later(s.last, t.start)
	if u := s.reply.Use; s.reachable && u != nil && u.Since == v.Committed.Wish.Time {
		v.Heeds, v.Blocks = true, u.blocks()
	}
}

// hasRole tells whether the host has the SPM role by its own word, or the lease by the disk's.
func hasRole(in *Inputs, f *Host) bool {
	return in.Lease.Held && in.Lease.Owner == f.HostID || f.Reachable && f.Role.State != RoleNone
}

// noHeir says why no other host can take the role; empty: one can.
func noHeir(in *Inputs, f *Host) string {
	if c, _ := candidates(in); slices.ContainsFunc(c, func(h Host) bool { return h.Name != f.Name }) {
		return ""
	}
	var why []string
	for i := range in.Hosts {
		h := &in.Hosts[i]
		switch {
		case h.Name == f.Name:
		case unfit(h) != "":
			why = append(why, h.Name+": "+unfit(h))
		case h.Failures > 0:
			why = append(why, h.Name+": could not start it lately")
		}
	}
	if len(why) == 0 {
		return "there is no other host"
	}
	return strings.Join(why, ", ")
}

// illness says why a host that answers is not well, the domains besides the master aside; empty: it is. What fails on all hosts is not
// the host's fault.
func illness(in *Inputs, f *Host) string {
	if !in.Master {
		return ""
	}
	others := func(ok func(h *Host) bool) bool {
		for i := range in.Hosts {
			if h := &in.Hosts[i]; h.Name != f.Name && h.Reachable && ok(h) {
				return true
			}
		}
		return false
	}
	switch {
	case !f.KeeperOK && others(func(h *Host) bool { return h.KeeperOK }):
		return "its lease keeper does not run, or has lost its host id"
	case !f.MasterValid && !f.MasterOwed && others(func(h *Host) bool { return h.MasterValid }):
		return "it cannot read the SPM lease on the master domain, and others can"
	}
	return ""
}
