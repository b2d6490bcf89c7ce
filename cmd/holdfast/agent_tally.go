package main

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/fsm"
)

// tally counts what goes by in the replicated state, which keeps a part of it only. It looks when it is scraped, and counts what
// came since its first look: what was there before is not news, and would be counted anew with each start of an agent.
type tally struct {
	events *prometheus.CounterVec
	fences *prometheus.CounterVec
	missed prometheus.Counter

	mu     sync.Mutex // guards the fields below
	begun  bool
	seen   fsm.EventID
	ended  map[string]bool // fence operations that ended and are counted, of those that are still remembered
	series map[[2]string]bool
}

func newTally() *tally {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_" + name, Help: help}, labels)
	}
	t := &tally{
		events: counter("events_total", "Events since this agent's first scrape, by kind and severity.", "kind", "severity"),
		fences: counter("fence_operations_total", "Fence operations that ended since this agent's first scrape.", "action", "outcome"),
		missed: prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_events_uncounted_total",
			Help: "Times that so much had happened since the last scrape that events may have left the history uncounted."}),
		ended: map[string]bool{}, series: map[[2]string]bool{},
	}
	for _, a := range []string{fsm.FenceOff, fsm.FenceOn, fsm.FenceRestart, fsm.FenceSoft, fsm.FenceKdump} {
		for _, o := range []string{fsm.FenceDone, fsm.FenceFailed, fsm.FenceAbandoned, fsm.FenceSkipped} {
			t.fences.WithLabelValues(a, o) // from 0 on, so that the first one is an increase
		}
	}
	return t
}

// Describe implements prometheus.Collector.
func (t *tally) Describe(ch chan<- *prometheus.Desc) {
	t.events.Describe(ch)
	t.fences.Describe(ch)
	t.missed.Describe(ch)
}

// Collect implements prometheus.Collector.
func (t *tally) Collect(ch chan<- prometheus.Metric) {
	t.events.Collect(ch)
	t.fences.Collect(ch)
	t.missed.Collect(ch)
}

// count takes over what is new in st.
func (t *tally) count(st *fsm.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.countEvents(st)
	t.countFences(st)
	t.begun = true
}

// countEvents counts the events after those of the last look; the caller holds mu.
func (t *tally) countEvents(st *fsm.State) {
	if oldest, ok := st.OldestEvent(); ok && t.begun && t.seen.Compare(oldest) < 0 && st.EventCount() >= fsm.MaxEvents {
		t.missed.Inc()
	}
	for e := range st.EventsFrom(t.seen) {
		t.seen = e.ID()
		c := t.of(e)
		if t.begun {
			c.Inc()
		}
	}
}

// maxSeries bounds the kinds of events that are told apart: their names come from other programs.
const maxSeries = 400

// of is the counter of an event; the caller holds mu.
func (t *tally) of(e fsm.Event) prometheus.Counter {
	key := [2]string{strings.ToValidUTF8(e.Kind, "\uFFFD"), strings.ToValidUTF8(e.Severity, "\uFFFD")}
	if !t.series[key] && len(t.series) >= maxSeries {
		key = [2]string{"other", "other"}
	}
	t.series[key] = true
	return t.events.WithLabelValues(key[0], key[1])
}

// countFences counts the operations that ended since the last look; the caller holds mu.
func (t *tally) countFences(st *fsm.State) {
	ended := map[string]bool{}
	for id, op := range st.Fences.All() {
		if op.Open() {
			continue
		}
		ended[id] = true
		if t.begun && !t.ended[id] {
			t.fences.WithLabelValues(op.Action, op.Outcome).Inc()
		}
	}
	t.ended = ended
}
