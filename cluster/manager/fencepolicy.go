package manager

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Under returns the policy as the cluster's configuration changes it. A value that cannot be read changes nothing: it was checked
// when it was set, by whatever program.
func (p Policy) Under(view *fsm.State) Policy {
	get := func(key string) string { v, _ := view.Config.Get(key); return v }
	flag := func(dst *bool, key string) {
		if v, err := strconv.ParseBool(get(key)); err == nil {
			*dst = v
		}
	}
	span := func(dst *time.Duration, key string, least time.Duration) {
		if v, err := time.ParseDuration(get(key)); err == nil && v >= least {
			*dst = v
		}
	}
	flag(&p.Fencing, fsm.ConfigFencingEnabled)
	flag(&p.SkipIfLive, fsm.ConfigSkipIfLive)
	flag(&p.SkipIfHalfDead, fsm.ConfigSkipIfHalfDead)
	flag(&p.RestartAfterOff, fsm.ConfigFencingRestart)
	span(&p.Grace, fsm.ConfigFencingGrace, MinGrace)
	span(&p.FenceQuiet, fsm.ConfigFencingQuiet, 0)
	until, ok := view.DisarmedUntil()
	if !ok {
		until = math.MaxInt64 // somebody meant to disarm
	}
	if until > 0 {
		p.DisarmedUntil, p.DisarmedBy = time.Unix(0, until), get(fsm.ConfigDisarmedBy)
	}
	return p
}

// MinGrace is the shortest grace time that can be set: a few pings.
const MinGrace = 500 * time.Millisecond

// disarmed tells whether nobody is fenced without a person now.
func (p *Policy) disarmed(now time.Time) bool { return p.DisarmedUntil.After(now) }

// disarmedWords says until when, and who wants it so.
func (p *Policy) disarmedWords() string {
	s := "fencing is disarmed until " + p.DisarmedUntil.UTC().Format(time.RFC3339)
	if p.DisarmedBy != "" {
		s += " by " + p.DisarmedBy
	}
	return s
}

// keepsLive tells whether a host is left alone because it renews on storage.
func (p *Policy) keepsLive(s Storage, lost time.Duration) bool {
	return p.SkipIfLive && s.Renewing && (p.FenceLiveAfter == 0 || lost < p.FenceLiveAfter)
}

// graceOf is how long a host may be silent before it is fenced.
func (p *Policy) graceOf(h *Host, holdsLease bool) time.Duration {
	grace := p.Grace + time.Duration(h.Uses)*p.GracePerUse
	if holdsLease {
		grace += p.GraceSPM
	}
	return grace
}

// CountsUses says whether hosts should tell how much they use of the pool: the grace time depends on it, or the saving of power.
func CountsUses(view *fsm.State) bool {
	pool, ok := view.Pool()
	return PowersaveOf(view).Enabled || ok && DefaultPolicy(pool.Profile).GracePerUse > 0
}

// quietLeft is how long a host is left alone after the last operation that acted on its power, as it is committed: another leader
// counts on. An operation without a single order costs no quiet time.
func quietLeft(op fsm.FenceOp, quiet time.Duration, now time.Time) time.Duration {
	if op.ID == "" || op.Action == fsm.FenceOn || op.Outcome != fsm.FenceFailed && !ordered(op) {
		return 0
	}
	from := op.Began
	if op.Outcome == fsm.FenceFailed {
		from = max(from, op.Ended) // it may have lasted longer than the quiet time, and is not tried again at once
	}
	since := now.Sub(time.Unix(0, from))
	return min(max(quiet-max(since, 0), 0), quiet)
}

// ordered tells whether an order went out, or may have.
func ordered(op fsm.FenceOp) bool {
	for _, st := range op.Steps {
		if st.Rung == RungPower && st.Result != fsm.StepSkipped {
			return true
		}
	}
	return false
}

// lastFences are the last operations on each host that were to make it unable to write, and those that were to switch it on.
func lastFences(view *fsm.State) (off, on map[string]fsm.FenceOp) {
	off, on = map[string]fsm.FenceOp{}, map[string]fsm.FenceOp{}
	for _, op := range view.Fences.All() { // sorted by time
		if op.Action == fsm.FenceOn {
			on[op.Host] = op
		} else {
			off[op.Host] = op
		}
	}
	return off, on
}

// opID makes an id that sorts by time. A host has one open operation, so time and host are enough.
func opID(now time.Time, hostID int) string { return fmt.Sprintf("%016x-%03d", now.UnixNano(), hostID) }
