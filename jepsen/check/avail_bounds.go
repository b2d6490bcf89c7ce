package check

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Slack is what is added to every bound: a client asks some times a second only, a leader may have to be elected before anybody can
// act, and many processes share few processors here.
const Slack = 3 * time.Second

// bound is how long a fault of a kind may stop changes when it comes alone: a row of the design's table "How the role moves".
type bound struct {
	kind string // or the beginning of several, with a final dot
	row  string
	time func(history.Bounds) time.Duration
	heal bool // counted from the healing: nothing can be done before
}

// bounds must have a row for every kind of fault there is; a fault without one is a finding.
var bounds = []bound{
	{"spm.move", "planned", always(100 * time.Millisecond), false},
	{"member.rejoin", "planned", always(100 * time.Millisecond), false},
	{"raft.transfer", "the SPM keeps its role", always(0), false},
	{"kill.agent", "the SPM's agent crashes, the host lives", always(time.Second), false},
	{"kill.keeper", "the SPM cannot renew", hostDead, false},
	{"kill.both", "the SPM's host is dead, no power management", hostDead, false},
	{"host.", "the SPM's host is dead, no power management", hostDead, false},
	{"data.flip", "the SPM's host is dead, no power management", hostDead, false},
	{"restart.all", "every host is dead", hostDead, true},
	{"power.off", "the SPM's host is dead, with power management", hostDead, false},
	{"power.", "the SPM cannot renew, and its power switch is of no use", switchless, false},
	{"stop.", "the SPM cannot renew", hostDead, false},
	{"net.", "the SPM lost the network, storage lives", always(2 * time.Second), false},
	{"path.", "the SPM cannot renew", hostDead, false},
	{"lun.gone", "nobody can renew", hostDead, true},
	{"disk.", "the leader steps down, the SPM keeps its role", always(2 * time.Second), false},
	{"clock.jump", "the SPM cannot renew", hostDead, false}, // its lease is over by its own clock
	{"clock.drift", "the margins of a lease allow for it", always(0), false},
}

func always(d time.Duration) func(history.Bounds) time.Duration {
	return func(history.Bounds) time.Duration { return d }
}

// hostDead is when a lease that is not renewed may be taken. The moment at which others first see that the record stands still is
// up to one look later than its last renewal, at two I/O timeouts.
func hostDead(b history.Bounds) time.Duration { return 8*b.IOTimeout + b.Watchdog + 2*b.IOTimeout }

// switchless is hostDead for a host whose fencing is tried first, in vain. The wait for the lease goes on meanwhile, so it costs nothing
// but the order that is under way.
func switchless(b history.Bounds) time.Duration { return hostDead(b) + switchTime }

// switchTime bounds what an order to a switch that something ails takes until it is given up for the lease's sake.
const switchTime = 5 * time.Second

// boundOf finds the row of a kind.
func boundOf(kind string) (bound, bool) {
	i := slices.IndexFunc(bounds, func(b bound) bool {
		return b.kind == kind || strings.HasSuffix(b.kind, ".") && strings.HasPrefix(kind, b.kind)
	})
	if i < 0 {
		return bound{}, false
	}
	return bounds[i], true
}

// span is from a fault's injection to the moment at which nothing of it may be left.
type span struct {
	history.Fault
	bound bound
	until time.Duration
	alone bool // no other fault's span touches it
}

// spans are the faults in order. One that was never healed lasts until the end; one that could not be injected may have been in part.
func spans(r Record) (all []span, unknown []string) {
	for _, f := range r.Faults {
		if f.Kind == history.Restart {
			continue // what caused it has a row
		}
		b, ok := boundOf(f.Kind)
		if !ok {
			unknown = append(unknown, f.Kind)
			continue
		}
		if f.End < f.Begin {
			f.End = r.Run.Lasted
		}
		if len(r.Run.Hosts) == 2 { // whom a fault hits is half of the majority, so nothing is promised before it has gone
			b.heal, b.time = true, hostDead
		}
		s := span{Fault: f, bound: b, until: f.End + b.time(r.Run.Bounds) + Slack, alone: true}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b span) int { return int(a.Begin - b.Begin) })
	for i := range all {
		for j := range all[:i] {
			if all[j].until >= all[i].Begin {
				all[i].alone, all[j].alone = false, false
			}
		}
	}
	slices.Sort(unknown)
	return all, slices.Compact(unknown)
}
