package manager

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// HostView is everything that NextHost looks at: what is committed about a host, and what is seen of it.
type HostView struct {
	Committed fsm.Host
	Now       time.Time
	Policy    Policy

	Seen    Host
	Storage Storage
	// Answer is the time of the first answer in the present row of answers, LastAnswer that of the last one, or of the term's begin.
	Answer, LastAnswer time.Time
	// Renewed is when a witness last saw it renew its record in any lockspace.
	Renewed time.Time
	// Ill says why a host that answers is not well; IllFor and WellFor how long that or the opposite has been so, and IllAfter how long
	// it must be to matter.
	Ill                       string
	IllFor, IllAfter, WellFor time.Duration
	// Flaps is how often the host stopped being up lately.
	Flaps int
	// Fencing says that a fence operation on the host is under way: it sets the state. Fenced is why the last one came to nothing; empty: it
	// did not, or is long over.
	Fencing bool
	Fenced  string
	// HasRole says that the host has the SPM role or its lease; Blocks what else is on it that keeps it from maintenance.
	HasRole bool
	Blocks  []string
	// Heeds says that the host has confirmed that it takes nothing new, and that Blocks is what it said since.
	Heeds bool
	// NoHeir says why the role cannot be moved off this host.
	NoHeir string
}

// HostNext is the state that follows, with its reason.
type HostNext struct {
	State    string
	Reason   string
	Deadline int64 // unix ns: when it will be left by itself, or something is due; 0 none
}

// NextHost is the table of host states. Pure. What it returns changes only when something happened: reasons and deadlines carry
// no ages, so that every change is worth a line in the log.
func NextHost(v HostView) HostNext {
	now := v.stay()
	if v.Fencing {
		return now
	}
	var next HostNext
	switch {
	case v.Committed.Wish.Want == fsm.WishMaintenance:
		next = v.towardMaintenance()
	case v.Seen.Reachable:
		next = v.answering()
	default:
		next = v.silent()
	}
	if next.State == now.State && keepsReason(now.State) {
		return now
	}
	return next
}

// keepsReason tells the states whose first reason stays: a later one would only be another view of the same.
func keepsReason(state string) bool {
	switch state {
	case fsm.HostPreparing, fsm.HostNonOperational, fsm.HostJoining, fsm.HostConnecting:
		return false
	}
	return true
}

// stay leaves everything as it is committed.
func (v *HostView) stay() HostNext {
	return HostNext{State: v.Committed.State, Reason: v.Committed.Reason, Deadline: v.Committed.Deadline}
}

// to makes the next state; a zero time is no deadline.
func to(state, reason string, deadline time.Time) HostNext {
	n := HostNext{State: state, Reason: reason}
	if !deadline.IsZero() {
		n.Deadline = deadline.UnixNano()
	}
	return n
}

// answering decides about a host that answers.
func (v *HostView) answering() HostNext {
	state := v.Committed.CurrentState()
	if v.Ill != "" && v.IllFor >= v.IllAfter {
		return to(fsm.HostNonOperational, v.Ill, time.Time{})
	}
	switch state {
	case fsm.HostUp:
		return v.stay()
	case fsm.HostJoining, "":
		if v.Ill == "" {
			return to(fsm.HostUp, "it answers and is well", time.Time{})
		}
		return to(fsm.HostJoining, v.Ill, time.Time{})
	}
	need := v.steadyNeed()
	if v.Ill == "" && v.Now.Sub(v.Answer) >= need && v.WellFor >= need {
		return to(fsm.HostUp, "it answers and is well", time.Time{})
	}
	if state == fsm.HostNonOperational {
		return v.stay()
	}
	return v.comingBack(state, need)
}

// comingBack is the way from every state of a host that did not answer to up.
func (v *HostView) comingBack(state string, need time.Duration) HostNext {
	reason := "it answers again and has to be well for a while"
	switch {
	case state == fsm.HostMaintenance || state == fsm.HostPreparing:
		reason = "maintenance is over; it has to be well for a while"
	case v.Flaps > fewFlaps:
		reason = fmt.Sprintf("it answers again; it came and went %d times lately, so it has to be well for longer", v.Flaps)
	}
	since := v.Answer
	if well := v.Now.Add(-v.WellFor); v.Ill == "" && well.After(since) {
		since = well
	}
	next := to(fsm.HostConnecting, reason, since.Add(need))
	if state == fsm.HostConnecting && next.Deadline == v.Committed.Deadline {
		return v.stay() // the same, said otherwise
	}
	return next
}

// steadyNeed is how long a host that was away must be well before it is up: longer for one that comes and goes.
func (v *HostView) steadyNeed() time.Duration {
	return min(v.Policy.Grace/4<<min(max(v.Flaps-fewFlaps, 0), 8), maxSteady*v.Policy.Grace)
}

// A host may be restarted fewFlaps times in a row without having to be well for longer; maxSteady bounds, in grace times, how long that
// becomes.
const (
	fewFlaps  = 2
	maxSteady = 5
)

// deadlinePassed tells whether the committed deadline lies behind.
func (v *HostView) deadlinePassed() bool {
	return v.Committed.Deadline != 0 && v.Now.UnixNano() >= v.Committed.Deadline
}

// silent decides about a host that does not answer.
func (v *HostView) silent() HostNext {
	state, lost := v.Committed.CurrentState(), v.Seen.LostFor
	alive := v.aliveOnStorage()
	switch {
	case state == fsm.HostRebooting && !v.deadlinePassed(): // the proof is of the life before
		return v.stay()
	case v.proven() && state != fsm.HostDown:
		return v.down("its death is proven")
	case state == fsm.HostDown && (!alive || v.proven()): // what it renewed before it died is no sign of life
		return v.stay()
	case lost >= v.Policy.Grace:
		return v.lost(state, alive)
	case lost < v.Policy.Grace/2 || !mayConnect(state):
		return v.stay()
	}
	return to(fsm.HostConnecting, "it does not answer", v.LastAnswer.Add(v.Policy.Grace))
}

// mayConnect tells the states that a short silence turns into connecting. The others say more already.
func mayConnect(state string) bool {
	switch state {
	case fsm.HostUp, fsm.HostNonOperational, fsm.HostConnecting, fsm.HostMaintenance, fsm.HostPreparing:
		return true
	}
	return false
}

// lost decides about a host that has been silent for the grace time, by what storage says.
func (v *HostView) lost(state string, alive bool) HostNext {
	s := v.Storage
	switch {
	case alive:
		var until time.Time
		if fence := v.LastAnswer.Add(v.Policy.FenceLiveAfter); v.Policy.FenceLiveAfter > 0 && v.Seen.Fenceable && fence.After(v.Now) {
			until = fence
		}
		return to(fsm.HostIsolated, "it does not answer, and renews its lease on storage: its network is dead, its storage alive", until)
	case state == fsm.HostIsolated && s.Status == Live && v.Seen.LostFor < v.Policy.SilentAfter+v.Policy.RenewPeriod:
		return v.stay() // a new leader: no renewal could be told from an old one yet
	case s.Status == Free:
		return v.down("it does not answer and has left the lockspace")
	case v.deadCounts():
		return v.down("it does not answer and its lease is dead")
	case s.Status == Dead:
		return to(fsm.HostNonResponsive, cmp.Or(v.Fenced, "it does not answer, its lease is dead, and no watchdog resets its machine: it may still write"), time.Time{})
	case s.Status == Unseen && !v.Seen.Answered && state == fsm.HostJoining:
		return to(fsm.HostNonResponsive, "it has not answered since it joined", time.Time{})
	}
	var dead time.Time
	if s.DeadIn > 0 {
		dead = v.Now.Add(s.DeadIn)
	}
	return to(fsm.HostNonResponsive, cmp.Or(v.Fenced, "it does not answer, and nothing proves that it is dead"), dead)
}

// deadCounts tells whether a lease that is dead proves that the machine writes no more: something has reset it, or the pool takes the clock's
// word.
func (v *HostView) deadCounts() bool {
	return v.Storage.Status == Dead && (!v.Seen.Unprotected || v.Policy.UnprotectedTakeover)
}

// down says how a host that is off comes back, when its power switch says that it is.
func (v *HostView) down(reason string) HostNext {
	if v.Seen.Power == PowerOff {
		reason = "it is switched off (holdfast host power on " + v.Committed.Name + "): " + reason
	}
	return to(fsm.HostDown, reason, time.Time{})
}

// proven tells whether this very life of the host is proven to be over.
func (v *HostView) proven() bool {
	return v.Seen.ProofGen != 0 && (v.Storage.Generation == 0 || v.Seen.ProofGen == v.Storage.Generation)
}

// aliveOnStorage tells whether the host renewed a lease surely after its last answer, and not long ago.
func (v *HostView) aliveOnStorage() bool {
	return v.Renewed.After(v.LastAnswer.Add(v.Policy.RenewPeriod)) && v.Now.Sub(v.Renewed) <= v.Policy.SilentAfter
}

// towardMaintenance decides about a host that an operator wants out of use. A host in maintenance stays there, whatever it does.
func (v *HostView) towardMaintenance() HostNext {
	w, state := v.Committed.Wish, v.Committed.CurrentState()
	switch {
	case state == fsm.HostMaintenance:
		return v.stay()
	case state == fsm.HostRebooting && !v.deadlinePassed() && !v.Seen.Reachable:
		return v.stay()
	}
	if blocks := v.blocks(); len(blocks) > 0 {
		return to(fsm.HostPreparing, "waits for: "+strings.Join(blocks, "; "), time.Time{})
	}
	return to(fsm.HostMaintenance, wishReason(w), time.Time{})
}

// blocks is what keeps the host from maintenance.
func (v *HostView) blocks() []string {
	if !v.Seen.Reachable {
		if v.proven() || v.Storage.Status == Free || v.deadCounts() {
			return nil
		}
		return []string{"it does not answer, so what it uses is not known; --force takes your word that it uses nothing"}
	}
	var out []string
	if v.HasRole {
		out = append(out, "the SPM role"+suffix(v.NoHeir))
	}
	if !v.Heeds {
		return append(out, "its word that it takes nothing new")
	}
	return append(out, v.Blocks...)
}

func suffix(why string) string {
	if why == "" {
		return ""
	}
	return ", which cannot move: " + why
}

// wishReason says who wanted it and why.
func wishReason(w fsm.Wish) string {
	s := "wanted by " + w.By
	if w.Reason != "" {
		s += ": " + w.Reason
	}
	return s
}
