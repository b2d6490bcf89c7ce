package fencing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestBounded_deadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := Bounded(&fakeDevice{hang: true}, DefaultLimits())
		start := time.Now()
		if st, err := d.Status(t.Context()); st != Unknown || !errors.Is(err, ErrTimeout) || time.Since(start) != 30*time.Second {
			t.Errorf("%s, %v after %s", st, err, time.Since(start))
		}
		start = time.Now()
		if err := d.Off(t.Context()); !errors.Is(err, ErrTimeout) || time.Since(start) != 2*time.Minute {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// late answers after its time, with a success.
type late struct{ fakeDevice }

func (*late) Status(context.Context) (State, error) {
	time.Sleep(time.Minute)
	return Off, nil
}

func TestBounded_lateSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		if st, err := Bounded(&late{}, DefaultLimits()).Status(t.Context()); st != Unknown || !errors.Is(err, ErrTimeout) {
			t.Errorf("%s, %v", st, err)
		}
	})
}

func TestBounded_longError(t *testing.T) {
	t.Parallel()
	long := fmt.Errorf("%s\x1b[2J: %w", strings.Repeat("blah\n", 100000), ErrGarbage)
	_, err := Bounded(&fakeDevice{askErr: long}, DefaultLimits()).Status(t.Context())
	if !errors.Is(err, ErrGarbage) || len(err.Error()) > MaxNote || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Fatalf("%d bytes, %.100q", len(err.Error()), err)
	}
}

func TestResult_bounded(t *testing.T) {
	t.Parallel()
	j := newJournal(ActionOff)
	m := Member{Name: "a", Device: &fakeDevice{askErr: errors.New(strings.Repeat("x", 10000))}}
	for range 1000 {
		_, _ = j.status(t.Context(), m)
	}
	r := j.done(false)
	if len(r.Steps) != maxSteps || len(r.String()) > maxEvidence {
		t.Fatalf("%d steps, %d bytes", len(r.Steps), len(r.String()))
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\n\tb  c\x00\x1b[1m":       "a b c [1m",
		"":                           "",
		"\xff\xfe":                   "?",
		"größer":                     "größer",
		strings.Repeat("é", 40):      strings.Repeat("é", 7) + " [cut]",
		strings.Repeat("y\n", 10000): strings.Repeat("y ", 7) + " [cut]",
	} {
		if got := Clean(in, 20); got != want {
			t.Errorf("Clean(%.20q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("Status: OFF\n", 100)
	f.Add("\xf0\x9f\x92", 2)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return
		}
		got := Clean(text, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x1b\x00") {
			t.Fatalf("Clean(%q, %d) = %q", text, limit, got)
		}
	})
}

// A secret must not come out by any way but Reveal.
func TestSecret_neverPrints(t *testing.T) {
	t.Parallel()
	const word = "s3cret-word"
	type conf struct {
		User   string
		Secret Secret
		Ptr    *Secret
		hidden Secret
	}
	s := NewSecret(word)
	c := conf{"u", s, &s, s}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "conf", c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "conf", c)
	js, err := json.Marshal(map[string]any{"c": c, "s": s})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"log": log.String(), "json": string(js), "error": fmt.Errorf("bad %v", s).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		texts[verb] = fmt.Sprintf(verb+" "+verb, s, c)
	}
	for how, text := range texts {
		if strings.Contains(text, word) || strings.Contains(text, fmt.Sprintf("%x", word)) {
			t.Errorf("%s tells the secret: %s", how, text)
		}
	}
	if s.Reveal() != word || !NewSecret("").Empty() || NewSecret("").String() != "" {
		t.Error("reveal or empty is wrong")
	}
	if got := s.Redact("login with s3cret-word failed"); strings.Contains(got, word) {
		t.Error(got)
	}
	var back Secret
	if err := json.Unmarshal([]byte(`"abc"`), &back); err != nil || back.Reveal() != "abc" {
		t.Error(back.Reveal(), err)
	}
}

func TestAgentDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSwitch{state: map[string]State{"h1": On}, settle: 3 * time.Second}
		m, err := NewMachine("h1", []Member{{"process", 1, Bounded(AgentDevice(f, "h1"), DefaultLimits())}}, DefaultTiming())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		r, err := m.Off(t.Context())
		if err != nil || time.Since(start) < 3*time.Second || !strings.Contains(r.String(), "pid 1 exited") {
			t.Fatalf("%v after %s: %s", err, time.Since(start), r)
		}
		// One that had died before may have requests under way all the same.
		start = time.Now()
		if r, err := m.Off(t.Context()); err != nil || !r.Skipped || time.Since(start) < 3*time.Second {
			t.Fatalf("already off: %v after %s: %s", err, time.Since(start), r)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err = m.Off(short)
		checkOff(t, r, err, context.DeadlineExceeded)
		if _, err := m.On(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := AgentDevice(f, "h1").Reset(t.Context()); !errors.Is(err, ErrUnsupported) {
			t.Fatal(err)
		}
	})
}
