package keeper

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// Hand-made operations: hosts 1 and 2 of generation 1, on one resource, in seconds.

func at(op simOp, call, ret int) *simOp {
	op.call, op.ret = time.Duration(call)*time.Second, time.Duration(ret)*time.Second
	return &op
}

func acquires(host int, version uint64, call, ret int) *simOp {
	return at(simOp{kind: opAcquire, life: simLifeID{host, 1}, version: version, outcome: outcomeDone}, call, ret)
}

func releases(host int, version uint64, call, ret int) *simOp {
	return at(simOp{kind: opRelease, life: simLifeID{host, 1}, version: version, outcome: outcomeDone}, call, ret)
}

func writes(version uint64, t int) *simOp {
	return at(simOp{kind: opWrite, version: version, outcome: outcomeDone}, t, t)
}

func ends(host, t int) *simOp {
	return at(simOp{kind: opMayEnd, life: simLifeID{host, 1}, outcome: outcomeDone}, t, t)
}

func seesHeld(host int, version uint64, call, ret int) *simOp {
	return at(simOp{kind: opStatus, life: simLifeID{host, 1}, version: version, state: leases.ResourceExclusive, outcome: outcomeDone}, call, ret)
}

func seesDead(host int, version uint64, call, ret int) *simOp {
	op := seesHeld(host, version, call, ret)
	op.takeable = true
	return op
}

func seesFree(host int, version uint64, call, ret int) *simOp {
	op := seesDead(host, version, call, ret)
	op.state = leases.ResourceFree
	return op
}

// lost is op with an outcome that nobody knows.
func lost(op *simOp) *simOp {
	op.outcome, op.ret = outcomeUnknown, 0
	if op.kind == opAcquire {
		op.version = 0
	}
	return op
}

func TestSimModel_legal(t *testing.T) {
	for name, ops := range map[string][]*simOp{
		"nothing":                       nil,
		"one after the other":           {acquires(1, 1, 0, 1), writes(1, 2), releases(1, 1, 3, 5), acquires(2, 2, 4, 6), writes(2, 7)},
		"told again":                    {acquires(1, 1, 0, 1), acquires(1, 1, 2, 3), writes(1, 4)},
		"a version nobody was told":     {acquires(1, 1, 0, 1), releases(1, 1, 2, 3), acquires(2, 3, 4, 5)},
		"status beside an acquire":      {acquires(1, 1, 0, 4), seesHeld(1, 1, 1, 2), writes(1, 4)},
		"status beside a release":       {acquires(1, 1, 0, 1), releases(1, 1, 2, 6), seesHeld(1, 1, 3, 4), seesFree(1, 1, 5, 6)},
		"status of what nobody took":    {at(simOp{kind: opStatus, state: leases.ResourceFree, takeable: true, outcome: outcomeDone}, 0, 1)},
		"from one that may be gone":     {acquires(1, 1, 0, 1), ends(1, 2), writes(1, 3), seesDead(1, 1, 4, 5), acquires(2, 2, 6, 7)},
		"release lost, it took effect":  {acquires(1, 1, 0, 1), lost(releases(1, 1, 2, 0)), seesHeld(1, 1, 3, 4), seesFree(1, 1, 5, 6), acquires(2, 2, 7, 8)},
		"acquire lost, nobody saw it":   {lost(acquires(1, 0, 0, 0)), acquires(2, 1, 1, 2)},
		"acquire lost, it took effect":  {lost(acquires(1, 0, 0, 0)), seesHeld(1, 1, 1, 2), seesFree(1, 1, 3, 4), acquires(2, 2, 5, 6)},
		"acquire lost, then told again": {lost(acquires(1, 0, 0, 0)), seesHeld(1, 1, 1, 2), acquires(1, 1, 3, 4), writes(1, 5)},
	} {
		t.Run(name, func(t *testing.T) { judged(t, ops, porcupine.Ok) })
	}
}

func TestSimModel_illegal(t *testing.T) {
	for name, ops := range map[string][]*simOp{
		"token used again":                 {acquires(1, 1, 0, 1), releases(1, 1, 2, 3), acquires(2, 1, 4, 5)},
		"token used again by the same":     {acquires(1, 1, 0, 1), releases(1, 1, 2, 3), acquires(1, 1, 4, 5)},
		"tokens fall":                      {acquires(1, 2, 0, 1), releases(1, 2, 2, 3), acquires(2, 1, 4, 5)},
		"two holders":                      {acquires(1, 1, 0, 1), acquires(2, 2, 2, 3)},
		"two holders at the same time":     {acquires(1, 1, 0, 2), acquires(2, 2, 0, 2)},
		"taken before it could be dead":    {acquires(1, 1, 0, 1), acquires(2, 2, 2, 3), ends(1, 4)},
		"the end of another":               {acquires(1, 1, 0, 1), ends(2, 2), acquires(2, 2, 3, 4)},
		"the end of an earlier life":       {ends(1, 0), acquires(1, 1, 1, 2), acquires(2, 2, 3, 4)},
		"write after a newer acquire":      {acquires(1, 1, 0, 1), ends(1, 2), acquires(2, 2, 3, 4), writes(1, 5)},
		"write after its release":          {acquires(1, 1, 0, 1), releases(1, 1, 2, 3), writes(1, 4)},
		"write before its acquire":         {writes(1, 0), acquires(1, 1, 1, 2)},
		"write after it was seen free":     {acquires(1, 1, 0, 1), ends(1, 2), seesFree(1, 1, 3, 4), writes(1, 5)},
		"status of a version never given":  {acquires(1, 1, 0, 1), seesHeld(1, 2, 2, 3)},
		"status of another holder":         {acquires(1, 1, 0, 1), seesHeld(2, 1, 2, 3)},
		"status from the past":             {acquires(1, 1, 0, 1), releases(1, 1, 2, 3), acquires(2, 2, 4, 5), seesFree(1, 1, 6, 7)},
		"status from the future":           {seesHeld(1, 1, 0, 1), acquires(1, 1, 2, 3)},
		"held, and seen free":              {acquires(1, 1, 0, 1), seesFree(1, 1, 2, 3)},
		"free, and seen held":              {acquires(1, 1, 0, 1), releases(1, 1, 2, 3), seesHeld(1, 1, 4, 5)},
		"alive, and said to be dead":       {acquires(1, 1, 0, 1), seesDead(1, 1, 2, 3)},
		"free for one, held for the next":  {acquires(1, 1, 0, 1), ends(1, 2), seesFree(1, 1, 3, 4), seesHeld(1, 1, 5, 6)},
		"free, but not to be had":          {acquires(1, 1, 0, 1), releases(1, 1, 2, 3), at(simOp{kind: opStatus, life: simLifeID{1, 1}, version: 1, state: leases.ResourceFree, outcome: outcomeDone}, 4, 5)},
		"seen twice, lost once":            {lost(acquires(1, 0, 0, 0)), seesHeld(1, 1, 1, 2), seesHeld(1, 2, 3, 4)},
		"seen before it was asked for":     {seesHeld(1, 1, 0, 1), lost(acquires(1, 0, 2, 0))},
		"refused, and seen held":           {at(simOp{kind: opAcquire, life: simLifeID{1, 1}, outcome: outcomeNone}, 0, 1), seesHeld(1, 1, 2, 3)},
		"taken before a lost release":      {acquires(1, 1, 0, 1), acquires(2, 2, 2, 3), lost(releases(1, 1, 4, 0))},
		"lost release of an older version": {acquires(1, 1, 0, 1), lost(releases(1, 1, 2, 0)), acquires(1, 2, 3, 4), acquires(2, 3, 5, 6)},
	} {
		t.Run(name, func(t *testing.T) { judged(t, ops, porcupine.Illegal) })
	}
}

// judged wants the verdict for operations on one resource, with nothing on the others.
func judged(t *testing.T, ops []*simOp, want porcupine.CheckResult) {
	t.Helper()
	h := simHistory{}
	h.ops[1] = ops
	if got := verdict(h.operations()); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// TestSimHistory_deaths: silence ends a life at its bound and not before.
func TestSimHistory_deaths(t *testing.T) {
	for bound, want := range map[time.Duration]porcupine.CheckResult{2 * time.Second: porcupine.Ok, 9 * time.Second: porcupine.Illegal} {
		h := simHistory{bounds: map[simLifeID]time.Duration{{1, 1}: bound}}
		h.ops[0] = []*simOp{acquires(1, 1, 0, 1), acquires(2, 2, 3, 4)}
		if got := verdict(h.operations()); got != want {
			t.Errorf("dead at %v: %s, not %s", bound, got, want)
		}
	}
}

// TestSimOp_answered: only a plain refusal says that nothing came of an acquire.
func TestSimOp_answered(t *testing.T) {
	for want, err := range map[simOutcome]error{
		outcomeDone:    nil,
		outcomeNone:    leases.ErrHeld,
		outcomeUnknown: errors.Join(leases.ErrHeld, blockdev.ErrOutcomeUnknown),
	} {
		op := simOp{}
		if op.answered(1, err); op.outcome != want {
			t.Errorf("%v: %v", err, op.outcome)
		}
	}
}

// TestSim_linearReport: a refusal names the operation and leaves a picture.
func TestSim_linearReport(t *testing.T) {
	s := &sim{}
	s.said.ops[2] = []*simOp{acquires(1, 1, 0, 1), writes(1, 2), acquires(2, 1, 3, 4), writes(1, 5)}
	err := s.linear()
	if err == nil || !strings.Contains(err.Error(), "Resource 2, 3s to 4s, machine 0: acquire by host 2/1 -> version 1") {
		t.Fatalf("%v", err)
	}
	path := err.Error()[strings.LastIndex(err.Error(), " ")+1:]
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "acquire by host 2/1") {
		t.Errorf("%s: %v", path, err)
	}
	_ = os.Remove(path)
}
