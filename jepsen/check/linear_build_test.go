package check

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// told is a history made by hand: each operation takes the time from 10 to 15 of its own decade, unless it is changed.
type told struct{ r Record }

func (t *told) add(kind, key string, in, out any) *history.Op {
	i, _ := json.Marshal(in) // of the tests' own types
	o, _ := json.Marshal(out)
	n := len(t.r.Ops)
	at := time.Duration(10*n) * time.Second
	t.r.Ops = append(t.r.Ops, history.Op{Client: n, Kind: kind, Key: key, Host: "h1", Input: i, Output: o,
		Call: at + 10*time.Second, Return: at + 15*time.Second, Outcome: history.OK, Epoch: 1, Index: uint64(n) + 1})
	return &t.r.Ops[n]
}

func (t *told) create(name, key, id string) *history.Op {
	return t.add(history.VolumeCreate, name, history.VolumeInput{Idempotency: key},
		history.VolumeAnswer{VolumeRef: history.VolumeRef{ID: id, Name: name}, Mirrored: true})
}

func (t *told) delete(name, id string) *history.Op {
	return t.add(history.VolumeDelete, name, history.VolumeInput{ID: id},
		history.VolumeAnswer{VolumeRef: history.VolumeRef{ID: id, Name: name}, Mirrored: true})
}

// list is of pairs of names and ids.
func (t *told) list(consistent bool, pairs ...string) *history.Op {
	var l history.VolumeListed
	for i := 0; i < len(pairs); i += 2 {
		l.Volumes = append(l.Volumes, history.VolumeRef{Name: pairs[i], ID: pairs[i+1]})
	}
	op := t.add(history.VolumeList, "", history.VolumeInput{Consistent: consistent}, l)
	op.Stale = !consistent
	return op
}

func (t *told) describe(name, text string) *history.Op {
	return t.add(history.VolumeDescribe, name, history.VolumeInput{Description: text},
		history.VolumeAnswer{VolumeRef: history.VolumeRef{ID: "id-" + name, Name: name, Description: text}, Mirrored: true})
}

func (t *told) show(consistent bool, name, text string) *history.Op {
	return t.add(history.VolumeShow, name, history.VolumeInput{Consistent: consistent},
		history.VolumeAnswer{VolumeRef: history.VolumeRef{ID: "id-" + name, Name: name, Description: text}})
}

func (t *told) acquire(host, vm string, token uint64) *history.Op {
	op := t.add(history.LeaseAcquire, "lease", history.LeaseInput{VM: vm}, history.LeaseAnswer{Host: host, Version: token})
	op.Host = host
	return op
}

func (t *told) release(host, vm string) *history.Op {
	op := t.add(history.LeaseRelease, "lease", history.LeaseInput{VM: vm}, history.LeaseAnswer{})
	op.Host = host
	return op
}

func (t *told) inspect(holder string, token uint64) *history.Op {
	return t.add(history.LeaseShow, "lease", history.LeaseInput{}, history.LeaseAnswer{Host: holder, Version: token})
}

// last gives the run its last lists, the same everywhere.
func (t *told) last(pairs ...string) {
	var l []history.VolumeRef
	for i := 0; i < len(pairs); i += 2 {
		l = append(l, history.VolumeRef{Name: pairs[i], ID: pairs[i+1]})
	}
	t.r.Final = &history.Final{Mirrors: map[string][]history.VolumeRef{"h1": l}, LUN: l}
}

// unknown makes an operation one whose answer never came.
func unknown(op *history.Op) *history.Op {
	op.Outcome, op.Return, op.Output, op.Code, op.Index = history.Unknown, history.Forever, nil, api.CodeOutcomeUnknown, 0
	return op
}

// refused makes an operation one that surely failed.
func refused(op *history.Op, code string) *history.Op {
	op.Outcome, op.Output, op.Code, op.Index = history.Failed, nil, code, 0
	return op
}

// during makes an operation last longer.
func during(op *history.Op, from, until int) *history.Op {
	op.Call, op.Return = time.Duration(from)*time.Second, time.Duration(until)*time.Second
	return op
}

// unmirrored makes a change one that the mirror has not taken yet.
func unmirrored(op *history.Op) {
	op.Output = json.RawMessage(strings.Replace(string(op.Output), `"mirrored":true`, `"mirrored":false`, 1))
	op.Index = 0
}

// mustPass wants all given checkers content.
func mustPass(t *testing.T, r Record, checkers ...Checker) {
	t.Helper()
	for _, c := range checkers {
		if v := c(r); !v.OK {
			t.Errorf("%s: %s\n%s", v.Checker, v.Summary, strings.Join(v.Faults, "\n"))
		}
	}
}

// mustFail wants a checker to find something that it describes with the words.
func mustFail(t *testing.T, r Record, c Checker, words ...string) {
	t.Helper()
	v := c(r)
	if v.OK {
		t.Fatalf("%s found nothing: %s", v.Checker, v.Summary)
	}
	all := strings.Join(v.Faults, "\n")
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("%s does not say %q:\n%s", v.Checker, w, all)
		}
	}
}

// stale gives a mirror's read its index and age.
func stale(op *history.Op, index uint64, age time.Duration) {
	op.Index = index
	op.Output = json.RawMessage(strings.Replace(string(op.Output), "{", fmt.Sprintf(`{"age":%d,`, age), 1))
}
