package fsm

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseEventID(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]EventID{
		"0.0": {}, "12.3": {12, 3}, "12": {12, math.MaxUint32}, "18446744073709551615.4294967295": {math.MaxUint64, math.MaxUint32},
	} {
		if got, err := ParseEventID(s); err != nil || got != want {
			t.Errorf("%s is read as %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ".", "1.", ".1", "+1.1", "1.+1", "-1", "1.1.1", " 1.1", "1,1", "0x1", "18446744073709551616", "1.4294967296", strings.Repeat("9", 1<<16)} {
		if got, err := ParseEventID(s); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.20q is read as %v, %v", s, got, err)
		}
	}
}

func FuzzParseEventID(f *testing.F) {
	for _, s := range []string{"1.2", "7", "", "18446744073709551615.4294967295", "1.-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseEventID(s)
		if err != nil {
			return
		}
		if again, err := ParseEventID(id.String()); err != nil || again != id {
			t.Fatalf("%q is %v, and then %v, %v", s, id, again, err)
		}
	})
}

func TestEventsFrom_followsOnePlaceAfterTheOther(t *testing.T) {
	t.Parallel()
	f := New()
	if _, ok := f.View().OldestEvent(); ok {
		t.Error("an event in an empty state")
	}
	for range 3 {
		run(t, f, &EventAdd{Events: []Event{{Kind: "a"}, {Kind: "b"}, {Kind: "c"}}})
	}
	st := f.View()
	all := st.Events()
	for i, e := range all {
		n := 0
		for got := range st.EventsFrom(e.ID()) {
			if n++; got.ID() != all[i+n].ID() || got.ID().Compare(e.ID()) <= 0 {
				t.Fatalf("after %v came %v", e.ID(), got.ID())
			}
		}
		if n != len(all)-1-i {
			t.Errorf("%d events after %v, want %d", n, e.ID(), len(all)-1-i)
		}
	}
	end, err := ParseEventID("1")
	if err != nil {
		t.Fatal(err)
	}
	for e := range st.EventsFrom(end) {
		if e.ID() != (EventID{2, 0}) {
			t.Errorf("after all of entry 1 came %v", e.ID())
		}
		break
	}
	for e := range st.EventsFrom(EventID{math.MaxUint64, math.MaxUint32}) {
		t.Errorf("after the end came %v", e.ID())
	}
	if oldest, ok := st.OldestEvent(); !ok || oldest != (EventID{1, 0}) {
		t.Errorf("the oldest is %v", oldest)
	}
}

func TestEventAdd_textsAreCut(t *testing.T) {
	t.Parallel()
	f := New()
	long := strings.Repeat("x", 1<<16)
	run(t, f, &EventAdd{Events: []Event{{Kind: "a", Reason: long, Evidence: long}}})
	if e := f.View().Events()[0]; len(e.Reason) != MaxReason || len(e.Evidence) != MaxEvidence {
		t.Errorf("%d and %d bytes", len(e.Reason), len(e.Evidence))
	}
}

func FuzzCut(f *testing.F) {
	f.Add("abcdef", 5)
	f.Add("ééééé", 6)
	f.Add("\xff\xfe\xfd\xfc\xfb", 4)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, min(limit, 1<<16))
		got := cut(s, limit)
		switch {
		case len(got) > limit:
			t.Fatalf("%d bytes, limit %d", len(got), limit)
		case len(s) <= limit && got != s:
			t.Fatalf("%q became %q", s, got)
		case utf8.ValidString(s) && !utf8.ValidString(got):
			t.Fatalf("%q was cut within a character: %q", s, got)
		case cut(got, limit) != got:
			t.Fatalf("cut twice: %q", got)
		}
	})
}

func TestDisarmedUntil(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"": "0 true", "123": "123 true", "soon": "0 false"} {
		f := New()
		if value != "" {
			run(t, f, &ConfigSet{Key: ConfigDisarmedUntil, Value: value})
		}
		until, ok := f.View().DisarmedUntil()
		if got := fmt.Sprint(until, ok); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
