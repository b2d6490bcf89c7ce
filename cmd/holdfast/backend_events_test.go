package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/fsm"
	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// eventHistory makes a state with n entries of two events each, the second of which is an error.
func eventHistory(t *testing.T, n int) recorded {
	t.Helper()
	r := recorded{t, fsm.New()}
	r.happen(n, "k")
	return r
}

// ids names the events of a page.
func ids(p httpapi.EventPage) string {
	var l []string
	for _, e := range p.Events {
		l = append(l, e.ID)
	}
	return fmt.Sprint(l)
}

func TestEvents_pages(t *testing.T) {
	t.Parallel()
	st := eventHistory(t, 4).View()
	for _, c := range []struct {
		name string
		q    httpapi.EventQuery
		want string
		seen api.EventID
	}{
		{name: "all", q: httpapi.EventQuery{Limit: 100}, want: "[1.0 1.1 2.0 2.1 3.0 3.1 4.0 4.1]", seen: api.EventID{Index: 4, Number: 1}},
		{name: "within an entry", q: httpapi.EventQuery{After: api.EventID{Index: 2}, Limit: 2}, want: "[2.1 3.0]", seen: api.EventID{Index: 3}},
		{name: "to the end of the history", q: httpapi.EventQuery{After: api.EventID{Index: 4, Number: 1}, Limit: 2}, want: "[]", seen: api.EventID{Index: 4, Number: 1}},
		{name: "beyond it", q: httpapi.EventQuery{After: api.EventID{Index: 9}, Limit: 2}, want: "[]", seen: api.EventID{Index: 9}},
		{name: "what does not match is seen too", q: httpapi.EventQuery{Limit: 5, Filter: httpapi.EventFilter{Kinds: []string{"other"}}}, want: "[]", seen: api.EventID{Index: 4, Number: 1}},
		{name: "but not beyond a full page", q: httpapi.EventQuery{Limit: 2, Filter: httpapi.EventFilter{Severity: fsm.Error}}, want: "[1.1 2.1]", seen: api.EventID{Index: 2, Number: 1}},
	} {
		p := eventsAfter(st, c.q)
		if ids(p) != c.want || p.Seen != c.seen || p.Gap || p.Oldest != (api.EventID{Index: 1}) {
			t.Errorf("%s: %s, %+v", c.name, ids(p), p)
		}
	}
	if p := newestEvents(st, httpapi.EventQuery{Limit: 2, Filter: httpapi.EventFilter{Severity: fsm.Error}}); ids(p) != "[3.1 4.1]" || p.Seen != (api.EventID{Index: 4, Number: 1}) {
		t.Errorf("the newest: %s, %+v", ids(p), p)
	}
	if p := newestEvents(fsm.New().View(), httpapi.EventQuery{Limit: 2}); ids(p) != "[]" || p.Seen != (api.EventID{}) || p.Gap {
		t.Errorf("an empty history: %+v", p)
	}
}

// An event that is too long for a stream would end each stream at the same place.
func TestEvents_longTextsAreCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want int // of what is sent, at most
	}{
		"short":          {"a", 1},
		"just right":     {strings.Repeat("a", maxEventText), maxEventText},
		"too long":       {strings.Repeat("\x01", 1<<20), maxEventText + 4},
		"cut in a rune":  {"a" + strings.Repeat("é", 1<<20), maxEventText + 4},
		"not even UTF-8": {strings.Repeat("\xff", 1<<20), maxEventText + 4},
	} {
		e := apiEvent(fsm.Event{Message: c.text, Subject: c.text, Reason: strings.Repeat("\x01", fsm.MaxReason), Evidence: strings.Repeat("\x01", fsm.MaxEvidence)})
		b, err := json.Marshal(e)
		if err != nil || len(e.Message) > c.want || len(b) > 256<<10 || len(c.text) <= maxEventText && e.Message != c.text {
			t.Errorf("%s: %d bytes, %d on the wire, %v", name, len(e.Message), len(b), err)
		}
	}
}

// A reader walks through any history in pages without loss or doubles.
func TestEvents_pagesJoin(t *testing.T) {
	t.Parallel()
	st := eventHistory(t, 100).View()
	for _, limit := range []int{1, 3, 64, 1000} {
		var all []string
		var after api.EventID
		for {
			p := eventsAfter(st, httpapi.EventQuery{After: after, Limit: limit})
			for _, e := range p.Events {
				all = append(all, e.ID)
			}
			if after = p.Seen; len(p.Events) < limit {
				break
			}
		}
		if want := ids(eventsAfter(st, httpapi.EventQuery{Limit: 1000})); fmt.Sprint(all) != want {
			t.Errorf("by %d: %v", limit, all)
		}
	}
}

func TestEvents_gap(t *testing.T) {
	t.Parallel()
	r := eventHistory(t, fsm.MaxEvents/2)
	gap := func(after api.EventID) bool {
		return eventsAfter(r.View(), httpapi.EventQuery{After: after, Limit: 1}).Gap
	}
	if gap(api.EventID{Index: 1}) {
		t.Error("a gap although nothing was dropped")
	}
	r.happen(10, "k")
	oldest, _ := r.View().OldestEvent()
	if !gap(api.EventID{Index: 1}) || gap(api.EventID(oldest)) || gap(api.EventID{Index: oldest.Index + 1}) {
		t.Errorf("the oldest is %s: %v %v", oldest, gap(api.EventID{Index: 1}), gap(api.EventID(oldest)))
	}
	if p := newestEvents(r.View(), httpapi.EventQuery{Limit: 3}); p.Gap || len(p.Events) != 3 {
		t.Errorf("the newest begin with a gap: %+v", p)
	}
}

// Two packages read ids of events, and must not disagree.
func TestEventID_isReadTheSameEverywhere(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"0", "0.0", "7", "7.3", "007.03", "18446744073709551615.4294967295", "18446744073709551615", "", ".", "7.", ".3", "-1", "+1", "1.-1",
		"1.2.3", "x", "1.x", " 1", "1 ", "18446744073709551616", "1.4294967296", "1e3", "0x1", "１"} {
		a, aerr := fsm.ParseEventID(s)
		b, berr := api.ParseEventID(s)
		if (aerr == nil) != (berr == nil) || aerr == nil && (api.EventID(a) != b || a.String() != b.String()) {
			t.Errorf("%q: %v %v, %v %v", s, a, aerr, b, berr)
		}
	}
}
