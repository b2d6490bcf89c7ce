package startable

import (
	"fmt"
	"time"
)

// Judge answers for one lease. It is pure.
func Judge(r Resource, p Policy) Answer {
	switch {
	case r.Problem != "" && r.Unreadable:
		return Answer{Rule: RuleUnreadable, Why: "this host cannot read the lease: " + r.Problem, Awaits: "the LUN to be readable",
			NextStep: "ask another host with --address"}
	case r.Problem != "":
		return Answer{Rule: RuleDamaged, Why: "the lease is damaged: " + r.Problem, Awaits: "a repair",
			NextStep: "holdfast domain check, then holdfast lease rebuild"}
	case len(r.Holders) > 0:
		return ofAll(r.Holders, p)
	case r.Former != nil:
		return former(r.Former, p)
	case r.Last != "":
		return Answer{Startable: true, Rule: RuleFree, Why: r.Last + " gave the lease back"}
	}
	return Answer{Startable: true, Rule: RuleFree, Why: "nobody ever had the lease"}
}

// ofAll judges every holder; the answer is that of the one that is waited for the longest.
func ofAll(l []Holder, p Policy) Answer {
	worst := holder(&l[0], p)
	for i := range l[1:] {
		if a := holder(&l[i+1], p); longer(a, worst) {
			worst = a
		}
	}
	if n := len(l) - 1; n > 0 {
		worst.Why += fmt.Sprintf("; the lease is shared, by %d more", n)
	}
	return worst
}

// longer says whether a is waited for longer than b; what has no countdown is waited for the longest.
func longer(a, b Answer) bool {
	switch {
	case a.Startable || b.Startable:
		return !a.Startable && b.Startable
	case b.In == 0:
		return false
	}
	return a.In == 0 || a.In > b.In
}

// former judges a free lease whose record names a host that is gone.
func former(h *Holder, p Policy) Answer {
	a := Answer{Startable: true, Host: h.Host}
	switch {
	case h.RecordGeneration > h.Generation:
		a.Rule = RuleCameBack
		a.Why = fmt.Sprintf("%s held the lease as generation %d and has come back as %d since", h.Host, h.Generation, h.RecordGeneration)
	case h.RecordGeneration < h.Generation && !h.clockCounts(p):
		return unprotected(h)
	case h.RecordGeneration < h.Generation:
		a.Rule = RuleDead
		a.Why = fmt.Sprintf("%s's record, free since generation %d, has stood still for longer than its leases and its watchdog last", h.Host, h.RecordGeneration)
	case h.proven():
		a.Rule, a.Proof = RuleProven, h.Proof
		a.Why = h.Host + "'s host id was freed: " + h.Proof.words()
	default:
		a.Rule, a.Why = RuleLeft, h.Host+" has left the lockspace"
	}
	return a
}

// oldFree is a record that was freed on a proof about an earlier generation, after its host had come back: whether that one
// is gone, only its silence can tell.
func oldFree(h *Holder) Answer {
	return Answer{Rule: RuleOldFree, Host: h.Host,
		Why: fmt.Sprintf("%s took the lease as generation %d, and its record is that of generation %d: that it is free says nothing about the later one",
			h.Host, h.Generation, h.RecordGeneration),
		Awaits: h.Host + " to renew its record, or to have been silent for longer than its leases and its watchdog last", NextStep: h.hasten()}
}

// holder judges a host that has the lease.
func holder(h *Holder, p Policy) Answer {
	counts := h.clockCounts(p)
	switch {
	case h.State == Free: // of the generation before: it would not hold anything otherwise
		return oldFree(h)
	case h.State == Dead && (counts || h.proven()):
		return dead(h)
	case h.proven():
		return pending(h, counts)
	case h.Fencing != "":
		return fencing(h, counts)
	case h.State == Live && !h.Lost:
		return alive(h)
	case h.State != Live && h.State != Fail && h.State != Dead:
		return h.no(RuleNotWatched, "has the lease, and its record has not been watched for long enough to judge it",
			"its record to be watched for long enough", h.countdown(counts), "ask again, or ask a host that has run for longer")
	case !counts:
		return unprotected(h)
	case h.State == Fail:
		return h.no(RuleSilent, fmt.Sprintf("has been silent for %s and may still be running", short(h.Silent)), h.Host+"'s lease to be DEAD", h.DeadIn, h.hasten())
	}
	return h.no(RuleLost, fmt.Sprintf("renewed its record %s ago and is lost (%s)", short(h.Silent), h.Condition),
		h.Host+" to be back, or its lease to be DEAD if it stays silent", h.DeadIn, h.hasten())
}

// clockCounts says whether its death by the clock does.
func (h *Holder) clockCounts(p Policy) bool {
	return !h.Member || h.Protected || p.UnprotectedTakeover
}

// alive is a host that renews and that the manager hears of, well or not.
func alive(h *Holder) Answer {
	if h.Condition == "" {
		return h.no(RuleAlive, "is alive and has the lease", h.Host+" to give the lease back", 0,
			"stop what runs under the lease on "+h.Host+"; to take it over without the host's help, see that the host is off first")
	}
	return h.no(RuleAlive, "is alive and has the lease, although it is not well ("+h.Condition+")", h.Host+" to give the lease back, or a proof that it is off", 0, h.hasten())
}

// dead is the answer that allows a start.
func dead(h *Holder) Answer {
	a := Answer{Startable: true, Rule: RuleDead, Host: h.Host}
	switch {
	case h.proven():
		a.Rule, a.Proof, a.Why = RuleProven, h.Proof, h.Host+" is dead: "+h.Proof.words()
	case h.Protected || !h.Member:
		a.Why = h.Host + "'s lease is DEAD: its watchdog has reset the machine by now"
	default:
		a.Why = h.Host + "'s lease is DEAD; no watchdog resets its machine, and the pool allows a takeover all the same (unprotected_takeover)"
	}
	return a
}

// pending is a proven death that the storage does not show yet.
func pending(h *Holder, counts bool) Answer {
	a := h.no(RuleProofPending, "is dead ("+h.Proof.words()+"), and its record in the lockspace is not free yet", "the manager to free "+h.Host+"'s record", h.countdown(counts),
		"holdfast events shows what the manager does; it needs a leader, and a host that reaches the domain")
	a.Proof = h.Proof
	return a
}

// fencing is a host that is being fenced.
func fencing(h *Holder, counts bool) Answer {
	awaits := h.Host + "'s power to be confirmed off"
	if counts {
		awaits += ", or its lease to be DEAD"
	}
	return h.no(RuleFencing, "is being fenced: "+h.Fencing, awaits, h.countdown(counts), "holdfast events --follow")
}

// countdown is the time until its death by the clock, where that counts.
func (h *Holder) countdown(counts bool) time.Duration {
	if !counts {
		return 0
	}
	return h.DeadIn
}

// unprotected is a host whose silence proves nothing.
func unprotected(h *Holder) Answer {
	what, awaits := "is lost ("+h.Condition+")", "a proof that "+h.Host+" is off"
	switch h.State {
	case Live:
		awaits += ", or the host to be back"
	case Fail:
		what = "has been silent for " + short(h.Silent)
	case Dead, Free:
		what = "is dead by the clock"
	}
	if h.Proof != nil && h.Proof.Void {
		what += ", its record changed after it was proven dead"
	}
	return h.no(RuleUnprotected, what+", and no watchdog resets its machine: what ran there may still be running",
		awaits, 0, h.hasten())
}

// no is an answer that refuses for the sake of h.
func (h *Holder) no(rule Rule, what, awaits string, in time.Duration, next string) Answer {
	return Answer{Rule: rule, Why: h.Host + " " + what, Awaits: awaits, In: max(in, 0), Host: h.Host, NextStep: next}
}

// proven says whether a proof counts.
func (h *Holder) proven() bool { return h.Proof != nil && !h.Proof.Void }

// hasten is what a person can do instead of waiting.
func (h *Holder) hasten() string {
	if !h.Member {
		return "see that " + h.Host + ", which is no member of this cluster, is off"
	}
	return fmt.Sprintf("holdfast host fence %s; or, once you know that it is off, holdfast host confirm-rebooted %s --reason TEXT", h.Host, h.Host)
}

// words tells of a proof.
func (p *Proof) words() string {
	s := "proof " + p.Kind
	if p.Evidence != "" {
		s += ", " + p.Evidence
	}
	if p.By != "" {
		s += ", by " + p.By
	}
	return s
}

// short is a time for people.
func short(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
