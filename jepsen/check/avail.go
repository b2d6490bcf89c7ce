package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// AvailRow is how long faults of one kind stopped one group of operations.
type AvailRow struct {
	Fault string        `json:"fault"`
	Group string        `json:"group"`
	Where string        `json:"where"` // asked at any host, or at each alive host: then the worst of them counts
	N     int           `json:"n"`     // faults during which somebody asked
	Alone int           `json:"alone"` // of them no other fault was near
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	Max   time.Duration `json:"max"`
	// Bound is what the design allows to one that comes alone, with the slack; 0: nothing is promised.
	Bound time.Duration `json:"bound,omitempty"`
	Over  int           `json:"over"` // of those alone, how many took longer
	Row   string        `json:"row,omitempty"`
}

// Where an operation was asked.
const (
	AnyHost   = "any host"
	AliveHost = "each alive host"
)

// Availability is the table of how long each kind of fault stopped what.
func Availability(r Record) []AvailRow {
	m := newMeter(r)
	var rows []AvailRow
	for _, kind := range kindsOf(m.spans) {
		for _, g := range []string{Creates, Extends, GuestWrites, Reads, ConsistentReads} {
			for _, where := range []string{AnyHost, AliveHost} {
				if row := m.row(kind, g, where); row.N > 0 {
					rows = append(rows, row)
				}
			}
		}
	}
	return rows
}

func kindsOf(all []span) []string {
	var kinds []string
	for _, s := range all {
		kinds = append(kinds, s.Kind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// meter has a run's operations sorted for measuring.
type meter struct {
	run   history.Run
	spans []span
	down  downs
	asked map[asked][]time.Duration // when, sorted
	waits map[asked]waits
}

// asked is a group of operations, of one host or, with none, of all.
type asked struct{ group, host string }

func newMeter(r Record) meter {
	m := meter{run: r.Run, down: downTimes(r), asked: map[asked][]time.Duration{}, waits: map[asked]waits{}}
	m.spans, _ = spans(r)
	ops := map[asked][]history.Op{}
	for _, o := range r.Ops {
		if g := groupOf(o); g != "" {
			ops[asked{g, ""}] = append(ops[asked{g, ""}], o)
			ops[asked{g, o.Host}] = append(ops[asked{g, o.Host}], o)
		}
	}
	for k, list := range ops {
		for _, o := range list {
			m.asked[k] = append(m.asked[k], o.Call)
		}
		slices.Sort(m.asked[k])
		m.waits[k] = newWaits(list, r.Run.Lasted)
	}
	return m
}

// row measures faults of one kind.
func (m meter) row(kind, group, where string) AvailRow {
	row := AvailRow{Fault: kind, Group: group, Where: where}
	var took []time.Duration
	for _, s := range m.spans {
		if s.Kind != kind {
			continue
		}
		if group == Creates && where == AnyHost || group == Extends && where == AliveHost {
			row.Row, row.Bound = s.bound.row, s.bound.time(m.run.Bounds)+Slack
		}
		wait, asked := m.longest(s, group, where)
		if !asked {
			continue
		}
		row.N++
		took = append(took, wait)
		if s.alone {
			row.Alone++
			if row.Bound > 0 && wait > row.Bound {
				row.Over++
			}
		}
	}
	slices.Sort(took)
	row.P50, row.P99, row.Max = quantile(took, 50), quantile(took, 99), quantile(took, 100)
	return row
}

// longest is the longest wait of those who asked while a fault lasted or left traces.
func (m meter) longest(s span, group, where string) (wait time.Duration, ever bool) {
	hosts := []string{""}
	if where == AliveHost {
		hosts = m.run.Hosts
		if group == Extends {
			hosts = m.extending(s)
		}
	}
	for _, host := range hosts {
		k := asked{group, host}
		calls := m.asked[k]
		i, _ := slices.BinarySearch(calls, s.Begin)
		for ; i < len(calls) && calls[i] <= s.until; i++ {
			if host != "" && m.down.touches(host, calls[i], calls[i]) {
				continue
			}
			from := calls[i]
			if s.bound.heal {
				from = max(from, s.End)
			}
			ever = true
			wait = max(wait, m.waits[k].from(from))
		}
	}
	return wait, ever
}

// extending are the hosts by way of which volumes can be extended during a fault: all that it does not hit, and where the network alone
// is hurt those too, since they have the storage.
func (m meter) extending(s span) []string {
	if strings.HasPrefix(s.Kind, "net.") {
		return m.run.Hosts
	}
	return slices.DeleteFunc(slices.Clone(m.run.Hosts), func(h string) bool { return slices.Contains(s.Targets, h) })
}

// quantile of a sorted list, by nearest rank.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// Available judges the table: a fault that came alone stopped creates no longer than the design promises, and when several have ended
// creates go on within the longest promise.
func Available(r Record) history.Verdict {
	const name = "availability"
	var f findings
	_, unknown := spans(r)
	m := newMeter(r)
	for _, k := range unknown {
		f.add("faults of kind %s have no bound; give them one in the table of bounds", k)
	}
	w := m.waits[asked{group: Creates}]
	if len(w.calls) == 0 {
		f.add("no create was answered in the whole run")
	}
	alone := 0
	for _, s := range m.spans {
		limit := s.bound.time(r.Run.Bounds) + Slack
		if s.alone {
			alone++
			if wait, ever := m.longest(s, Creates, AnyHost); ever && wait > limit {
				f.add("%s: creates stopped for %s, and %s is allowed (%s)", tellFault(s.Fault), wait.Round(time.Millisecond), limit, s.bound.row)
			}
			if wait, ever := m.longest(s, Extends, AliveHost); ever && wait > limit {
				f.add("%s: extensions stopped for %s by way of a host that could ask for them, and %s is allowed (%s)",
					tellFault(s.Fault), wait.Round(time.Millisecond), limit, s.bound.row)
			}
		}
	}
	for _, quiet := range quietTimes(m.spans, r.Run) {
		if wait := w.from(quiet.from); len(w.calls) > 0 && wait > quiet.limit && quiet.from+quiet.limit < min(quiet.to, r.Run.Lasted) {
			f.add("no create was answered for %s after everything was healed at %.3fs; %s is allowed", wait.Round(time.Millisecond), quiet.from.Seconds(), quiet.limit)
		}
	}
	return f.verdict(name, "%d faults, %d of them alone; slack %s on each bound", len(m.spans), alone, Slack)
}

// quiet is a time in which no fault lasts.
type quiet struct{ from, to, limit time.Duration }

// quietTimes lists the times between faults, each from the last healing on.
func quietTimes(all []span, run history.Run) []quiet {
	var out []quiet
	end := time.Duration(0)
	for _, s := range all {
		if end > 0 && s.Begin > end {
			out = append(out, quiet{end, s.Begin, hostDead(run.Bounds) + Slack})
		}
		end = max(end, s.End)
	}
	if end > 0 {
		out = append(out, quiet{end, run.Lasted, hostDead(run.Bounds) + Slack})
	}
	return out
}

func tellFault(f history.Fault) string {
	return fmt.Sprintf("%s %v at %.3fs", f.Kind, f.Targets, f.Begin.Seconds())
}
