package check

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// The files about what the pool did with the hosts' power, beside the switches' own record.
const (
	// EventsFile has the pool's events in order, asked of one host after the other.
	EventsFile = "events.jsonl"
	// FencesFile has all operations on the hosts' power with their steps, by the host that said so at the end.
	FencesFile = "fences.json"
)

// Seen is one event of the pool and when it was seen, or the word that some are missing.
type Seen struct {
	At    time.Duration `json:"at"`
	Event *api.Event    `json:"event,omitempty"`
	Gap   *api.EventGap `json:"gap,omitempty"`
}

// stampSlack is how much a time that an agent has written down may be off from the harness's clock.
const stampSlack = 100 * time.Millisecond

// interval is a time between two moments.
type interval struct{ from, to time.Duration }

func (i interval) touches(from, to time.Duration) bool { return i.from <= to && i.to >= from }

// powerStory is what a run says about the hosts' power.
type powerStory struct {
	began  time.Time
	off    map[string][]interval // when each host was really off
	asked  []history.Power       // the requests to switches, in order
	ops    []api.FenceOp         // in the order of their beginnings
	events []api.Event
	lease  []HostState
}

// loadPower reads it. What a proof by storage means is told by the LUN's record alone.
func loadPower(r Record) (*powerStory, error) {
	s := &powerStory{began: r.Run.Began, off: map[string][]interval{}}
	power, err := history.Load[history.Power](r.Folder, history.PowerFile)
	if err != nil {
		return nil, err
	}
	if err := s.switches(power, r.Run.Lasted); err != nil {
		return nil, err
	}
	var said map[string][]api.FenceOp
	if err := readJSON(r.Folder, FencesFile, &said); err != nil {
		return nil, err
	}
	s.ops = merge(said)
	seen, err := history.Load[Seen](r.Folder, EventsFile)
	if err != nil {
		return nil, err
	}
	for _, e := range seen {
		if e.Gap != nil {
			return nil, fmt.Errorf("events are missing after %s, as the pool said at %s", e.Gap.After, at(e.At))
		}
		if e.Event != nil {
			s.events = append(s.events, *e.Event)
		}
	}
	b := r.Run.Bounds
	expiry := 8 * b.IOTimeout
	dead := expiry + b.Watchdog
	s.lease, err = HostStates(r, expiry, dead-dead/100) // clocks may drift
	return s, err
}

// switches sorts the record of the switches into what was true and what was asked.
func (s *powerStory) switches(all []history.Power, end time.Duration) error {
	slices.SortStableFunc(all, func(a, b history.Power) int { return cmp.Compare(a.At, b.At) })
	since := map[string]time.Duration{}
	for _, p := range all {
		from, off := since[p.Host]
		switch p.Kind {
		case history.PowerIsOff:
			if off {
				return fmt.Errorf("%s went off twice, at %s and at %s", p.Host, at(from), at(p.At))
			}
			since[p.Host] = p.At
		case history.PowerIsOn:
			if off {
				s.off[p.Host] = append(s.off[p.Host], interval{from, p.At})
				delete(since, p.Host)
			}
		case history.PowerOrderOff, history.PowerOrderOn, history.PowerAskStatus:
			s.asked = append(s.asked, p)
		default:
			return fmt.Errorf("the switch of %s has an unknown note %q", p.Host, p.Kind)
		}
	}
	for host, from := range since {
		s.off[host] = append(s.off[host], interval{from, max(end, from)})
	}
	return nil
}

// merge takes each operation once, the one with most to tell.
func merge(said map[string][]api.FenceOp) []api.FenceOp {
	byID := map[string]api.FenceOp{}
	for _, ops := range said {
		for _, op := range ops {
			if was, ok := byID[op.ID]; !ok || was.Ended.IsZero() && len(op.Steps) >= len(was.Steps) {
				byID[op.ID] = op
			}
		}
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b api.FenceOp) int { return a.Began.Compare(b.Began) })
}

// run is a moment as the run counts it.
func (s *powerStory) run(t time.Time) time.Duration { return t.Sub(s.began) }

// wasOff reports whether a host was without power at some moment of a time.
func (s *powerStory) wasOff(host string, from, to time.Duration) bool {
	return slices.ContainsFunc(s.off[host], func(i interval) bool { return i.touches(from, to) })
}

// leaseOver reports whether storage said at a moment that a generation of a host, or with 0 any, has no lease that lives: DEAD, FREE, or
// followed by another one.
func (s *powerStory) leaseOver(host string, gen uint64, t time.Duration) bool {
	return slices.ContainsFunc(s.lease, func(h HostState) bool {
		over := h.State == "DEAD" || h.State == "FREE" || gen > 0 && h.Generation > gen
		return h.Host == host && over && interval{h.From, h.To}.touches(t-stampSlack, t+stampSlack)
	})
}

// newestLife is the generation that a host had at a moment, by its records; 0: none was seen.
func (s *powerStory) newestLife(host string, t time.Duration) (gen uint64) {
	for _, h := range s.lease {
		if h.Host == host && h.From <= t+stampSlack {
			gen = max(gen, h.Generation)
		}
	}
	return gen
}

// The rungs of an operation's steps that matter here, and their results.
const (
	rungPower = "power_off"
	rungLease = "lease_dead"
	stepOK    = "ok"
)

var errNoEvents = errors.New("the record has no event of the pool: nothing was followed")
