package fencing

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// KindPowerOff is the proof that a machine was seen without power.
const KindPowerOff = "power_off"

const (
	maxSteps    = 64      // kept of one action; the first half and the newest
	maxEvidence = 4 << 10 // bytes of Result.String
)

// Step is one call to one device.
type Step struct {
	Time   time.Time     `json:"time"`
	Took   time.Duration `json:"took_ns"`
	Device string        `json:"device"`
	Action Action        `json:"action"`
	State  State         `json:"state,omitempty"` // a status' answer
	Notes  string        `json:"notes,omitempty"` // what the device told
	Error  string        `json:"error,omitempty"`
}

// String is the step on one line.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", s.Device, s.Action)
	if s.State != "" {
		fmt.Fprintf(&b, " = %s", s.State)
	}
	fmt.Fprintf(&b, " (%s)", s.Took.Round(time.Millisecond))
	for _, text := range []string{s.Notes, s.Error} {
		if text != "" {
			b.WriteString(": " + text)
		}
	}
	return b.String()
}

// Result is what an action of Machine did and saw.
type Result struct {
	Action Action    `json:"action"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	// Skipped: the machine was in the wanted state already, and nothing was ordered.
	Skipped bool `json:"skipped,omitempty"`
	// OffAt is when the machine was confirmed off; zero if it was not. A restart whose second half failed has it too: the
	// proof of death holds although the machine did not come back.
	OffAt time.Time `json:"off_at,omitzero"`
	Steps []Step    `json:"steps"`
}

// Evidence makes the proof of a confirmed off; false when there is none.
func (r Result) Evidence() (Evidence, bool) {
	if r.OffAt.IsZero() {
		return Evidence{}, false
	}
	return Evidence{Kind: KindPowerOff, Detail: r.String(), At: r.OffAt}, true
}

// String tells the whole action in a bounded text; when it is too long the steps in the middle are left out.
func (r Result) String() string {
	head := string(r.Action)
	if r.Skipped {
		head += ", already so"
	}
	lines := make([]string, len(r.Steps))
	size := len(head)
	for i, s := range r.Steps {
		lines[i] = Clean(s.String(), 512)
		size += len(lines[i]) + 2
	}
	for size > maxEvidence && len(lines) > 2 {
		mid := len(lines) / 2
		size -= len(lines[mid]) + 2
		lines = append(lines[:mid], lines[mid+1:]...)
	}
	return Clean(head+": "+strings.Join(lines, "; "), maxEvidence)
}

// journal collects the steps of one action.
type journal struct {
	mu     sync.Mutex // guards result: the devices of a group are asked at once
	result Result
}

func newJournal(a Action) *journal {
	return &journal{result: Result{Action: a, Began: time.Now()}}
}

// status asks one device, and writes it down.
func (j *journal) status(ctx context.Context, m Member) (State, error) {
	st := Unknown
	err := j.call(ctx, m, ActionStatus, func(ctx context.Context, s *Step) (err error) {
		st, err = m.Device.Status(ctx)
		if err != nil || st != On && st != Off {
			st = Unknown
		}
		s.State = st
		return err
	})
	return st, err
}

// settle waits until nothing of a machine that is off is under way any more.
func (j *journal) settle(ctx context.Context, m Member) error {
	s, ok := m.Device.(Settler)
	if b, is := m.Device.(bounded); is {
		_, ok = b.dev.(Settler)
	}
	if !ok {
		return nil
	}
	return j.call(ctx, m, ActionSettle, func(ctx context.Context, _ *Step) error { return s.Settle(ctx) })
}

// order gives one device an order, and writes it down.
func (j *journal) order(ctx context.Context, m Member, a Action) error {
	orders := map[Action]func(context.Context) error{
		ActionOff: m.Device.Off, ActionOn: m.Device.On, ActionReset: m.Device.Reset,
	}
	return j.call(ctx, m, a, func(ctx context.Context, _ *Step) error { return orders[a](ctx) })
}

func (j *journal) call(ctx context.Context, m Member, a Action, fn func(context.Context, *Step) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s of %s: %w", a, m.Name, err)
	}
	n := &notes{}
	s := Step{Time: time.Now(), Device: m.Name, Action: a}
	err := fn(withNotes(ctx, n), &s)
	s.Took, s.Notes = time.Since(s.Time), n.String()
	if err != nil {
		s.Error = Clean(err.Error(), MaxNote)
		err = fmt.Errorf("%s of %s: %w", a, m.Name, err)
	}
	j.add(s)
	return err
}

// add keeps a step; of too many, one in the middle goes.
func (j *journal) add(s Step) {
	j.mu.Lock()
	defer j.mu.Unlock()
	steps := append(j.result.Steps, s)
	if len(steps) > maxSteps {
		steps = append(steps[:maxSteps/2], steps[maxSteps/2+1:]...)
	}
	j.result.Steps = steps
}

// confirmedOff records that the machine was seen off.
func (j *journal) confirmedOff() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.result.OffAt = time.Now()
}

// done closes the journal.
func (j *journal) done(skipped bool) Result {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.result.Ended, j.result.Skipped = time.Now(), skipped
	return j.result
}
