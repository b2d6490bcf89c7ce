package fsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// begin opens an operation on h1, as the leader of term 5.
func begin(id string) *FenceBegin {
	return &FenceBegin{Term: 5, Op: FenceOp{ID: id, Host: "h1", HostID: 1, Generation: 2, Action: FenceOff, Began: 100, Leader: "h2"}}
}

func with[C any](c *C, change func(*C)) *C {
	change(c)
	return c
}

func advance(id string, term uint64, result string) *FenceAdvance {
	return &FenceAdvance{ID: id, Term: term, Step: FenceStep{Rung: "power_off", Result: result, Leader: fmt.Sprint("leader of ", term)}}
}

func end(id string, term uint64, outcome string) *FenceEnd {
	return &FenceEnd{ID: id, Term: term, Outcome: outcome, Time: 200}
}

func proofOf(generation uint64) *Proof {
	return &Proof{Kind: ProofPowerOff, Host: "h1", HostID: 1, Generation: generation, Evidence: "off", Time: 200}
}

// outcomeCase is a log and what its last command gives.
type outcomeCase struct {
	name string
	cmds []Command
	want error
}

// runCases gives each case a cluster of its own, whose h1 has generation 2.
func runCases(t *testing.T, cases []outcomeCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := cluster(t)
			run(t, f, &HostUpdate{Name: "h1", Generation: new(uint64(2))})
			for i, out := range run(t, f, c.cmds...) {
				if i < len(c.cmds)-1 && out.Err() != nil {
					t.Fatalf("command %d prepares the case, but: %v", i, out.Err())
				}
				if i == len(c.cmds)-1 && !errors.Is(out.Err(), c.want) {
					t.Errorf("got %v, want %v", out.Err(), c.want)
				}
			}
		})
	}
}

func TestFenceBegin_rules(t *testing.T) {
	t.Parallel()
	disarm := func(value string) *ConfigSet { return &ConfigSet{Key: ConfigDisarmedUntil, Value: value} }
	runCases(t, []outcomeCase{
		{"good", []Command{begin("f1")}, nil},
		{"a later generation than recorded", []Command{with(begin("f1"), func(c *FenceBegin) { c.Op.Generation = 9 })}, nil},
		{"no such host", []Command{with(begin("f1"), func(c *FenceBegin) { c.Op.Host = "h9" })}, ErrNotFound},
		{"another host id", []Command{with(begin("f1"), func(c *FenceBegin) { c.Op.HostID = 2 })}, ErrConflict},
		{"an older generation", []Command{with(begin("f1"), func(c *FenceBegin) { c.Op.Generation = 1 })}, ErrStale},
		{"another one is open", []Command{begin("f1"), begin("f2")}, ErrConflict},
		{"a person's while another one is open", []Command{begin("f1"), with(begin("f2"), func(c *FenceBegin) { c.Op.ByPerson = true })}, ErrConflict},
		{"the one before has ended", []Command{begin("f1"), end("f1", 5, FenceFailed), begin("f2")}, nil},
		{"the same id again", []Command{begin("f1"), end("f1", 5, FenceFailed), begin("f1")}, ErrExists},
		{"a term that is over", []Command{begin("f1"), end("f1", 6, FenceFailed), begin("f2")}, ErrStale},
		{"disarmed", []Command{disarm("101"), begin("f1")}, ErrDisarmed},
		{"disarmed by nobody knows what", []Command{disarm("tomorrow"), begin("f1")}, ErrDisarmed},
		{"armed again by time", []Command{disarm("100"), begin("f1")}, nil},
		{"armed again by hand", []Command{disarm("101"), disarm(""), begin("f1")}, nil},
		{"disarmed, but a person asks", []Command{disarm("101"), with(begin("f1"), func(c *FenceBegin) { c.Op.ByPerson = true })}, nil},
		{"no id", []Command{begin("")}, ErrInvalid},
		{"long id", []Command{begin(strings.Repeat("x", 65))}, ErrInvalid},
		{"unknown action", []Command{with(begin("f1"), func(c *FenceBegin) { c.Op.Action = "explode" })}, ErrInvalid},
		{"no time", []Command{with(begin("f1"), func(c *FenceBegin) { c.Op.Began = 0 })}, ErrInvalid},
		{"bad first step", []Command{with(begin("f1"), func(c *FenceBegin) { c.Op.Steps = []FenceStep{{Rung: "rpc", Result: "?"}} })}, ErrInvalid},
		{"too many steps", []Command{with(begin("f1"), func(c *FenceBegin) {
			c.Op.Steps = slices.Repeat([]FenceStep{{Rung: "rpc", Result: StepOK}}, MaxFenceSteps+1)
		})}, ErrInvalid},
	})
}

func TestFenceAdvance_rules(t *testing.T) {
	t.Parallel()
	takeover := func(term uint64) *FenceAdvance {
		return with(advance("f1", term, StepIntent), func(c *FenceAdvance) { c.Takeover = true })
	}
	runCases(t, []outcomeCase{
		{"good", []Command{begin("f1"), advance("f1", 5, StepIntent)}, nil},
		{"no such operation", []Command{advance("f1", 5, StepIntent)}, ErrNotFound},
		{"of an older term", []Command{begin("f1"), advance("f1", 4, StepOK)}, ErrStale},
		{"of a newer term, not taken over", []Command{begin("f1"), advance("f1", 6, StepIntent)}, ErrConflict},
		{"taken over", []Command{begin("f1"), takeover(6)}, nil},
		{"the new leader goes on", []Command{begin("f1"), takeover(6), advance("f1", 6, StepOK)}, nil},
		{"the old leader after the takeover", []Command{begin("f1"), takeover(6), advance("f1", 5, StepIntent)}, ErrStale},
		{"the old leader takes it back", []Command{begin("f1"), takeover(6), takeover(5)}, ErrStale},
		{"takeover by the same term", []Command{begin("f1"), takeover(5)}, nil},
		{"after its end", []Command{begin("f1"), end("f1", 5, FenceDone), advance("f1", 5, StepOK)}, ErrConflict},
		{"takeover after its end", []Command{begin("f1"), end("f1", 5, FenceDone), takeover(6)}, ErrConflict},
		{"unknown result", []Command{begin("f1"), advance("f1", 5, "perhaps")}, ErrInvalid},
		{"no rung", []Command{begin("f1"), &FenceAdvance{ID: "f1", Term: 5, Step: FenceStep{Result: StepOK}}}, ErrInvalid},
		{"too many steps", append(append([]Command{begin("f1")}, slices.Repeat([]Command{advance("f1", 5, StepUnknown)}, MaxFenceSteps)...),
			advance("f1", 5, StepOK)), ErrFull},
		{"end of one with too many steps", append(append([]Command{begin("f1")}, slices.Repeat([]Command{advance("f1", 5, StepUnknown)}, MaxFenceSteps)...),
			end("f1", 6, FenceFailed)), nil},
	})
}

func TestFenceEnd_rules(t *testing.T) {
	t.Parallel()
	proving := func(p *Proof) *FenceEnd {
		return with(end("f1", 5, FenceDone), func(c *FenceEnd) { c.Proof = p })
	}
	runCases(t, []outcomeCase{
		{"done", []Command{begin("f1"), proving(proofOf(2))}, nil},
		{"skipped, without a proof", []Command{begin("f1"), end("f1", 5, FenceSkipped)}, nil},
		{"by a later term", []Command{begin("f1"), end("f1", 9, FenceAbandoned)}, nil},
		{"by an older term", []Command{begin("f1"), end("f1", 4, FenceDone)}, ErrStale},
		{"twice", []Command{begin("f1"), end("f1", 5, FenceDone), end("f1", 5, FenceDone)}, ErrConflict},
		{"no such operation", []Command{end("f1", 5, FenceDone)}, ErrNotFound},
		{"unknown outcome", []Command{begin("f1"), end("f1", 5, "maybe")}, ErrInvalid},
		{"no outcome", []Command{begin("f1"), end("f1", 5, "")}, ErrInvalid},
		{"proof about a later generation", []Command{begin("f1"), proving(proofOf(3))}, nil},
		{"proof about an older generation", []Command{begin("f1"), proving(proofOf(1))}, ErrStale},
		{"proof about another host", []Command{begin("f1"), proving(with(proofOf(2), func(p *Proof) { p.Host = "h2" }))}, ErrInvalid},
		{"proof about another host id", []Command{begin("f1"), proving(with(proofOf(2), func(p *Proof) { p.HostID = 2 }))}, ErrInvalid},
		{"proof of no kind", []Command{begin("f1"), proving(with(proofOf(2), func(p *Proof) { p.Kind = "" }))}, ErrInvalid},
		{"proof of too many spaces", []Command{begin("f1"), proving(with(proofOf(2), func(p *Proof) { p.Spaces = make([]SpaceRecord, maxSpaces+1) }))}, ErrInvalid},
	})
}

func TestFenceOp_tellsItsStory(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	lying := with(begin("f1"), func(c *FenceBegin) {
		c.Op.Outcome, c.Op.Ended, c.Op.Term, c.Op.ProofGeneration = FenceDone, 7, 99, 8
		c.Op.Steps = []FenceStep{{Rung: "rpc", Term: 98, Result: StepFailed}}
	})
	run(t, f, lying)
	op, open := f.View().OpenFence("h1")
	if !open || op.Term != 5 || op.Ended != 0 || op.ProofGeneration != 0 || op.Steps[0].Term != 5 {
		t.Fatalf("a new operation is open and of its leader's term, whatever it says of itself: %+v", op)
	}
	before := f.View()
	next := with(advance("f1", 6, StepIntent), func(c *FenceAdvance) { c.Takeover, c.Step.Proxy, c.Step.Term = true, "h3", 77 })
	run(t, f, next)
	op, _ = f.View().OpenFence("h1")
	if op.Term != 6 || op.Leader != "leader of 6" || op.Proxy != "h3" || len(op.Steps) != 2 || op.Steps[1].Term != 6 {
		t.Errorf("after the takeover: %+v", op)
	}
	if old, _ := before.OpenFence("h1"); len(old.Steps) != 1 || old.Term != 5 {
		t.Errorf("a published state changed: %+v", old)
	}
	done := with(end("f1", 6, FenceDone), func(c *FenceEnd) { c.Proof, c.Detail = proofOf(2), "d" })
	if out := last(t, f, done); out.Err() != nil || out.HostID != 1 {
		t.Fatal(out)
	}
	st := f.View()
	if _, open := st.OpenFence("h1"); open || len(st.OpenFences()) != 0 {
		t.Error("it ended and is open")
	}
	got := st.FencesOf("h1")
	if len(got) != 1 || got[0].Outcome != FenceDone || got[0].Ended != 200 || got[0].Detail != "d" || got[0].ProofGeneration != 2 {
		t.Errorf("history %+v", got)
	}
	if p, ok := st.Proofs.Get(ProofKey("h1", 2)); !ok || p.Kind != ProofPowerOff {
		t.Error("the proof is not recorded")
	}
}

// A refused end must leave no proof behind.
func TestFenceEnd_refused_recordsNoProof(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	takeover := with(advance("f1", 6, StepIntent), func(c *FenceAdvance) { c.Takeover = true })
	run(t, f, begin("f1"), takeover)
	late := with(end("f1", 5, FenceDone), func(c *FenceEnd) { c.Proof = proofOf(2) })
	if out := last(t, f, late); !errors.Is(out.Err(), ErrStale) || f.View().Proofs.Len() != 0 {
		t.Errorf("%v, %d proofs", out.Err(), f.View().Proofs.Len())
	}
	if op, open := f.View().OpenFence("h1"); !open || op.Term != 6 {
		t.Errorf("%+v", op)
	}
}

func TestFences_areBounded_openOnesStay(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	run(t, f, token("t"), joinAs("h2", "t", 5))
	long := with(begin("a-long-one"), func(c *FenceBegin) { c.Op.Host, c.Op.HostID = "h2", 2 })
	run(t, f, long)
	for i := range maxEndedOps + 5 {
		id := fmt.Sprintf("f%06d", i)
		e := end(id, 5, FenceFailed)
		e.Time = int64(1000 + i)
		if out := last(t, f, begin(id), e); out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	st := f.View()
	if st.Fences.Len() != maxEndedOps+1 || st.Fences.Has("f000004") || !st.Fences.Has("f000005") {
		t.Errorf("%d operations are kept, not the last %d and the open one", st.Fences.Len(), maxEndedOps)
	}
	if _, open := st.OpenFence("h2"); !open {
		t.Fatal("an open operation was forgotten")
	}
	// It began first of all and its clock is slow: its end must be seen all the same.
	e := end("a-long-one", 5, FenceDone)
	e.Time = 1
	if out := last(t, f, e); out.Err() != nil || !f.View().Fences.Has("a-long-one") || f.View().Fences.Len() != maxEndedOps {
		t.Errorf("%v, %d operations", out.Err(), f.View().Fences.Len())
	}
}

func TestFenceOp_textsAreCut(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	long := strings.Repeat("é", 50<<10)
	run(t, f, with(begin("f1"), func(c *FenceBegin) { c.Op.Reason, c.Op.By, c.Op.Leader, c.Op.Proxy = long, long, long, long }))
	for range MaxFenceSteps {
		c := advance("f1", 5, StepOK)
		c.Step.Evidence, c.Step.Device, c.Step.Rung, c.Step.Proxy, c.Step.Leader = long, long, long, long, long
		if out := last(t, f, c); out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	e := with(end("f1", 5, FenceDone), func(c *FenceEnd) { c.Detail, c.Proof = long, with(proofOf(2), func(p *Proof) { p.Evidence = long }) })
	run(t, f, e)
	op, _ := f.View().Fences.Get("f1")
	first, last := op.Steps[0], op.Steps[MaxFenceSteps-1]
	if len(op.Reason) > MaxReason || len(op.Detail) > MaxReason || len(op.By) > maxName || len(first.Evidence) > MaxEvidence || len(last.Evidence) < leastEvidence-8 {
		t.Errorf("reason %d, detail %d, by %d, evidence %d and %d bytes", len(op.Reason), len(op.Detail), len(op.By), len(first.Evidence), len(last.Evidence))
	}
	if b, err := json.Marshal(op); err != nil || len(b) > 200<<10 {
		t.Errorf("an operation of %d bytes, %v", len(b), err)
	}
	if p, _ := f.View().Proofs.Get(ProofKey("h1", 2)); len(p.Evidence) > MaxEvidence {
		t.Errorf("a proof with an evidence of %d bytes", len(p.Evidence))
	}
}

func TestHostRemove_endsItsFencingAndForgetsItsSecrets(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	run(t, f, token("t"), joinAs("h10", "t", 5), device("h10", "bmc", 1), device("h1", "bmc", 1), begin("f1"))
	if out := last(t, f, &HostRemove{Name: "h1", Proof: proofOf(2), Time: 300}); out.Err() != nil {
		t.Fatal(out.Err())
	}
	st := f.View()
	op, _ := st.Fences.Get("f1")
	if _, open := st.OpenFence("h1"); open || op.Outcome != FenceAbandoned || op.Ended != 300 {
		t.Errorf("%+v", op)
	}
	if len(st.DevicesOf("h1")) != 0 || len(st.DevicesOf("h10")) != 1 {
		t.Error("the removed host's devices stayed, or another's went")
	}
}
