package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// store is a pool that does everything right, one thing at a time: operations have their effect in the order of a random
// moment between call and return.
type store struct {
	rnd   *rand.Rand
	ids   map[string]string // name -> id
	text  map[string]string // id -> description
	past  []history.VolumeListed
	lease leaseState
	ops   []history.Op
}

// volumes is the state as a list.
func (s *store) volumes() history.VolumeListed {
	l := history.VolumeListed{Volumes: []history.VolumeRef{}}
	for name, id := range s.ids {
		l.Volumes = append(l.Volumes, history.VolumeRef{ID: id, Name: name, Description: s.text[id]})
	}
	return l
}

// planned is an operation before it has its effect.
type planned struct {
	op     history.Op
	effect time.Duration
	input  any
}

// plan draws n operations of some clients.
func (s *store) plan(n, clients int) []planned {
	var all []planned
	free := make([]time.Duration, clients)
	for i := range n {
		c := s.rnd.IntN(clients)
		call := free[c] + time.Duration(1+s.rnd.IntN(100))*time.Millisecond
		length := time.Duration(s.rnd.IntN(200)) * time.Millisecond
		free[c] = call + length
		p := planned{op: history.Op{Client: c, Host: fmt.Sprint("h", 1+s.rnd.IntN(3)), Call: call, Return: call + length, Outcome: history.OK, Epoch: 1},
			effect: call + time.Duration(s.rnd.Int64N(int64(length)+1))}
		s.draw(&p, i)
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b planned) int { return cmp.Compare(a.effect, b.effect) })
	return all
}

// draw chooses what to do.
func (s *store) draw(p *planned, i int) {
	name := fmt.Sprintf("jv-1-%d", s.rnd.IntN(3))
	switch s.rnd.IntN(9) {
	case 0, 1:
		p.op.Kind, p.op.Key, p.input = history.VolumeCreate, name, history.VolumeInput{Idempotency: fmt.Sprint("k", i)}
	case 2:
		p.op.Kind, p.op.Key, p.input = history.VolumeDelete, name, history.VolumeInput{}
	case 3:
		p.op.Kind, p.input = history.VolumeList, history.VolumeInput{Consistent: true}
	case 4:
		p.op.Kind, p.input = history.VolumeList, history.VolumeInput{}
	case 5:
		p.op.Kind, p.op.Key, p.input = history.VolumeDescribe, "jv-1-r", history.VolumeInput{Description: fmt.Sprint("d", i)}
	case 6:
		p.op.Kind, p.op.Key, p.input = history.VolumeShow, "jv-1-r", history.VolumeInput{Consistent: s.rnd.IntN(2) == 0}
	case 7:
		p.op.Kind, p.op.Key, p.input = history.LeaseAcquire, "lease", history.LeaseInput{VM: "vm"}
	case 8:
		p.op.Kind, p.op.Key, p.input = history.LeaseRelease, "lease", history.LeaseInput{VM: "vm"}
	}
}

// do lets an operation have its effect. Of every twelfth nobody hears, whether it had it or not.
func (s *store) do(p planned) {
	op := p.op
	op.Input, _ = json.Marshal(p.input)
	lost := s.rnd.IntN(12) == 0 && op.Kind != history.VolumeList && op.Kind != history.VolumeShow
	if !lost || s.rnd.IntN(2) == 0 {
		out, code := s.effect(&op, p.input)
		op.Output, _ = json.Marshal(out)
		if code != "" {
			op.Outcome, op.Code, op.Output, op.Index = history.Failed, code, nil, 0
		}
	}
	if lost {
		op.Outcome, op.Return, op.Output, op.Code, op.Index, op.Epoch = history.Unknown, history.Forever, nil, api.CodeOutcomeUnknown, 0, 0
	}
	s.ops = append(s.ops, op)
}

func (s *store) effect(op *history.Op, input any) (out any, code string) {
	switch in := input.(type) {
	case history.LeaseInput:
		return s.leaseEffect(op, in)
	case history.VolumeInput:
		out, code = s.volumeEffect(op, in)
	}
	if op.Kind == history.VolumeList || op.Kind == history.VolumeShow {
		return out, code
	}
	s.past = append(s.past, s.volumes())
	op.Index = uint64(len(s.past)) - 1
	return out, code
}

func (s *store) volumeEffect(op *history.Op, in history.VolumeInput) (any, string) {
	id := s.ids[op.Key]
	ref := history.VolumeRef{ID: id, Name: op.Key}
	switch op.Kind {
	case history.VolumeCreate:
		if id != "" {
			return nil, api.CodeNameTaken
		}
		ref.ID = "id-" + in.Idempotency
		s.ids[op.Key] = ref.ID
	case history.VolumeDelete:
		if id == "" {
			return nil, api.CodeNotFound
		}
		delete(s.ids, op.Key)
	case history.VolumeDescribe:
		s.text[id], ref.Description = in.Description, in.Description
	case history.VolumeShow:
		op.Index, ref.Description = uint64(len(s.past))-1, s.text[id]
	case history.VolumeList:
		op.Index = uint64(len(s.past)) - 1
		return s.past[op.Index], ""
	}
	return history.VolumeAnswer{VolumeRef: ref, Mirrored: true}, ""
}

func (s *store) leaseEffect(op *history.Op, in history.LeaseInput) (any, string) {
	mine := s.lease.host == op.Host && s.lease.vm == in.VM
	switch {
	case op.Kind == history.LeaseRelease && !mine:
		return nil, api.CodeLeaseLost
	case op.Kind == history.LeaseRelease:
		s.lease.host = ""
	case mine:
	case s.lease.host != "":
		return nil, api.CodeBusy
	default:
		s.lease = leaseState{version: s.lease.version + 1, host: op.Host, vm: in.VM}
	}
	return history.LeaseAnswer{Host: op.Host, Version: s.lease.version}, ""
}

// randomRecord is the record of a run against a store that does everything right.
func randomRecord(seed uint64, n, clients int) Record {
	s := &store{rnd: rand.New(rand.NewPCG(seed, 1)), ids: map[string]string{}, text: map[string]string{}}
	s.ids["jv-1-r"], s.past = "id-kr", []history.VolumeListed{{}}
	s.past = append(s.past, s.volumes())
	in, _ := json.Marshal(history.VolumeInput{Idempotency: "kr"})
	out, _ := json.Marshal(history.VolumeAnswer{VolumeRef: history.VolumeRef{ID: "id-kr", Name: "jv-1-r"}, Mirrored: true})
	s.ops = append(s.ops, history.Op{Client: clients, Kind: history.VolumeCreate, Key: "jv-1-r", Input: in, Output: out,
		Return: 1, Outcome: history.OK, Epoch: 1, Index: 1})
	for _, p := range s.plan(n, clients) {
		s.do(p)
	}
	last := s.volumes().Volumes
	return Record{Run: history.Run{Least: n / 4}, Ops: s.ops,
		Final: &history.Final{Mirrors: map[string][]history.VolumeRef{"h1": last}, LUN: last}}
}

// Whatever a correct store answers passes: a checker that cries wolf is switched off sooner or later.
func TestClients_randomLinearizable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			mustPass(t, randomRecord(seed, 300, 8), Clients()...)
		})
	}
}

// And what a correct store would not answer does not: in each history one answer is changed.
func TestClients_randomMutated(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		check  Checker
		change func(*history.Op) bool
	}{
		"a consistent list forgets all": {LinearVolumes, func(op *history.Op) bool {
			full := op.Kind == history.VolumeList && string(op.Input) == `{"consistent":true}`
			op.Output = pick(full, `{"volumes":[]}`, op.Output)
			return full
		}},
		"a mirror forgets all": {Mirrors, func(op *history.Op) bool {
			full := op.Kind == history.VolumeList && string(op.Input) == `{}`
			op.Output = pick(full, `{"volumes":[]}`, op.Output)
			return full
		}},
		"a consistent read of the register is old": {LinearRegisters, func(op *history.Op) bool {
			hit := op.Kind == history.VolumeShow && string(op.Input) == `{"consistent":true}` && op.Call > time.Second
			op.Output = pick(hit, `{"id":"id-kr","name":"jv-1-r"}`, op.Output)
			return hit
		}},
		"a token goes back": {LinearLeases, func(op *history.Op) bool {
			hit := op.Kind == history.LeaseAcquire && op.Outcome == history.OK && op.Call > time.Second
			op.Output = pick(hit, fmt.Sprintf(`{"host":%q,"version":0}`, op.Host), op.Output)
			return hit
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(5) {
				r := randomRecord(seed, 300, 4)
				i := slices.IndexFunc(r.Ops, func(op history.Op) bool { return op.Call > 500*time.Millisecond && tt.change(&op) })
				if i < 0 {
					t.Fatalf("seed %d has nothing to change", seed)
				}
				tt.change(&r.Ops[i])
				mustFail(t, r, tt.check)
			}
		})
	}
}

// pick is the changed output where a change applies.
func pick(hit bool, changed string, old json.RawMessage) json.RawMessage {
	if hit {
		return json.RawMessage(changed)
	}
	return old
}
