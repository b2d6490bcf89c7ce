package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err   error
		reads bool
		want  history.Outcome
	}{
		"done":                        {nil, false, history.OK},
		"the program does not know":   {fmt.Errorf("x: %w", &api.Error{Code: api.CodeOutcomeUnknown}), false, history.Unknown},
		"refused":                     {&api.Error{Code: api.CodeNameTaken}, false, history.Failed},
		"surely not done":             {&api.Error{Code: api.CodeUnavailable}, false, history.Failed},
		"a change without an answer":  {context.DeadlineExceeded, false, history.Unknown},
		"a lost connection":           {errors.New("reset"), false, history.Unknown},
		"a read without an answer":    {context.DeadlineExceeded, true, history.Failed},
		"a read that nobody knows of": {&api.Error{Code: api.CodeOutcomeUnknown}, true, history.Failed},
	} {
		if got, _, _ := outcome(tt.err, tt.reads); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// Names have their time: after so many operations, or so many doubts, a fresh one comes.
func TestNames_retire(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	s := newNames("x", 1, 10)
	first := s.pick(rnd)
	s.learn(first, history.Op{Kind: history.VolumeCreate, Outcome: history.OK}, "i1")
	for range 9 {
		if s.pick(rnd) != first {
			t.Fatal("the first name went too early")
		}
	}
	second := s.pick(rnd)
	if second == first {
		t.Fatal("the first name stays for ever")
	}
	if n, id := s.pickOld(); n != first || id != "i1" {
		t.Errorf("the old name is %v with %q", n, id)
	}
	s.learn(first, history.Op{Kind: history.VolumeDelete, Outcome: history.OK}, "i1")
	if n, _ := s.pickOld(); n != nil {
		t.Error("a name whose volume is deleted is still kept")
	}
	for range doubts {
		s.learn(second, history.Op{Kind: history.VolumeCreate, Outcome: history.Unknown}, "")
	}
	if s.pick(rnd) == second {
		t.Error("a name of too many doubts is still used")
	}
}

func TestNames_repeatsAKey(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	s := newNames("x", 1, 10)
	n := s.pick(rnd)
	a := s.ask(n, history.VolumeInput{Idempotency: "k1"}, true, rnd)
	b := s.ask(n, history.VolumeInput{Idempotency: "k2"}, true, rnd)
	if a.Idempotency != "k1" || b.Idempotency != "k1" {
		t.Errorf("asked with %s and %s", a.Idempotency, b.Idempotency)
	}
}

// A pool that hung for a while is not flooded afterwards.
func TestPace(t *testing.T) {
	t.Parallel()
	p := newPace(10)
	now := time.Now()
	for i := range 3 {
		if got := p.take(now); got != time.Duration(i)*100*time.Millisecond {
			t.Errorf("moment %d is %v away", i, got)
		}
	}
	if got := p.take(now.Add(time.Hour)); got != 0 {
		t.Errorf("after an hour the next moment is %v away", got)
	}
	if got := p.take(now.Add(time.Hour)); got != 100*time.Millisecond {
		t.Errorf("and the one after it %v", got)
	}
}
