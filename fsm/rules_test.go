package fsm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// run applies commands and returns the outcomes.
func run(t *testing.T, f *FSM, cmds ...Command) []Outcome {
	t.Helper()
	var outs []Outcome
	for _, c := range cmds {
		data, err := Encode(c, "")
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, f.Apply(f.View().Index+1, data).(Outcome))
	}
	return outs
}

func last(t *testing.T, f *FSM, cmds ...Command) Outcome {
	t.Helper()
	outs := run(t, f, cmds...)
	return outs[len(outs)-1]
}

func cluster(t *testing.T) *FSM {
	t.Helper()
	f := New()
	for _, out := range run(t, f,
		&ClusterInit{ClusterID: "c", Version: 1, Host: Host{Name: "h1"}, Time: 1},
		&PoolCreate{Pool: Pool{ID: "p"}},
		&DomainPut{Domain: Domain{ID: "d", Epoch: 1}},
	) {
		if out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	return f
}

func token(id string) *TokenCreate {
	return &TokenCreate{Token: Token{ID: id, Role: TokenJoin, SecretHash: "x", Expires: 100}}
}

func joinAs(name, tok string, now int64) *HostJoin {
	return &HostJoin{Host: Host{Name: name, KeyHash: "key of " + name}, TokenID: tok, Time: now}
}

func TestHostJoin_tokens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		cmds []Command
		want error
		id   int
	}{
		{"good", []Command{token("t"), joinAs("h2", "t", 5)}, nil, 2},
		{"unknown", []Command{joinAs("h2", "t", 5)}, ErrTokenUnknown, 0},
		{"revoked", []Command{token("t"), &TokenRevoke{ID: "t"}, joinAs("h2", "t", 5)}, ErrTokenUnknown, 0},
		{"expired", []Command{token("t"), joinAs("h2", "t", 100)}, ErrTokenExpired, 0},
		{"used by another", []Command{token("t"), joinAs("h2", "t", 5), joinAs("h3", "t", 6)}, ErrTokenUsed, 0},
		{"retry with the same key", []Command{token("t"), joinAs("h2", "t", 5), joinAs("h2", "t", 6)}, nil, 2},
		{"retry with another key", []Command{token("t"), joinAs("h2", "t", 5),
			&HostJoin{Host: Host{Name: "h2", KeyHash: "other"}, TokenID: "t", Time: 6}}, ErrTokenUsed, 0},
		{"name taken", []Command{token("t"), joinAs("h1", "t", 5)}, ErrExists, 0},
		{"bad name", []Command{token("t"), joinAs("H 2", "t", 5)}, ErrInvalid, 0},
		{"API token", []Command{&TokenCreate{Token: Token{ID: "t", Role: TokenAdmin, SecretHash: "x"}}, joinAs("h2", "t", 5)}, ErrTokenUnknown, 0},
		{"program too old", []Command{token("t"), &HostJoin{Host: Host{Name: "h2", Protocol: ProtocolRange{2, 3}}, TokenID: "t"}}, ErrConflict, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := last(t, cluster(t), c.cmds...)
			if !errors.Is(out.Err(), c.want) || out.HostID != c.id {
				t.Errorf("got %+v, want %v and id %d", out, c.want, c.id)
			}
		})
	}
}

func TestHostRemove_idIsReusedOnlyAfterProofAndLast(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	for id := 2; id <= MaxHostID; id++ {
		tok := fmt.Sprint("t", id)
		if out := last(t, f, token(tok), joinAs(fmt.Sprint("x", id), tok, 5)); out.HostID != id {
			t.Fatalf("got %+v, want id %d", out, id)
		}
	}
	if out := last(t, f, token("full"), joinAs("late", "full", 5)); !errors.Is(out.Err(), ErrFull) {
		t.Fatalf("got %+v", out)
	}
	run(t, f, &HostUpdate{Name: "x7", Generation: new(uint64(3))})
	old := &Proof{Kind: ProofDead, Host: "x7", HostID: 7, Generation: 2}
	if out := last(t, f, &HostRemove{Name: "x7", Proof: old}); !errors.Is(out.Err(), ErrProofRequired) {
		t.Fatalf("a proof about an older generation was enough: %+v", out)
	}
	good := Proof{Kind: ProofPowerOff, Host: "x7", HostID: 7, Generation: 3}
	if out := last(t, f, &ProofAdd{Proof: good}, &HostRemove{Name: "x7"}); out.Err() != nil {
		t.Fatal(out.Err())
	}
	if !f.View().Removed.Has("x7") {
		t.Error("nobody remembers that x7 was removed")
	}
	if out := last(t, f, joinAs("late", "full", 5)); out.HostID != 7 {
		t.Errorf("got %+v, want id 7", out)
	}
}

func TestSPMUpdate_comparesAndNeverGoesBack(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	for i, c := range []struct {
		expect, epoch uint64
		want          error
	}{{0, 3, nil}, {0, 4, ErrConflict}, {3, 2, ErrStale}, {3, 3, nil}, {3, 4, nil}} {
		out := last(t, f, &SPMUpdate{Pool: "p", ExpectEpoch: c.expect, SPM: SPM{Host: "h1", Epoch: c.epoch, State: SPMServing}, Time: int64(i)})
		if !errors.Is(out.Err(), c.want) {
			t.Errorf("step %d: %+v, want %v", i, out, c.want)
		}
	}
	if out := last(t, f, &SPMDesire{Pool: "p", Desired: "host:nobody"}); !errors.Is(out.Err(), ErrInvalid) {
		t.Errorf("wish for a host that is none: %+v", out)
	}
	run(t, f, &SPMDesire{Pool: "p", Desired: "host:h1"}, &SPMUpdate{Pool: "p", ExpectEpoch: 4, SPM: SPM{Epoch: 5}})
	p, _ := f.View().Pool()
	if name, ok := p.SPM.DesiredHost(); !ok || name != "h1" {
		t.Errorf("the operator's wish was lost: %+v", p.SPM)
	}
	// The manager takes back a wish that was fulfilled; a new one that came meanwhile must stay.
	if out := last(t, f, &SPMDesire{Pool: "p", Desired: DesireAny, Expect: "host:h2"}); !errors.Is(out.Err(), ErrConflict) {
		t.Errorf("an outdated take-back: %+v", out)
	}
	if p, _ := f.View().Pool(); p.SPM.Desired != "host:h1" {
		t.Errorf("an outdated take-back undid the wish: %+v", p.SPM)
	}
	run(t, f, &SPMDesire{Pool: "p", Desired: DesireAny, Expect: "host:h1"})
}

func put(id string, epoch, seq uint64) *VolumesPut {
	return &VolumesPut{Volumes: []Volume{{ID: id, Domain: "d", Name: fmt.Sprint(id, " at ", seq), Epoch: epoch, Seq: seq}}}
}

func gone(id string, epoch, seq uint64) *VolumesRemove {
	return &VolumesRemove{Volumes: []VolumeRef{{"d", id, epoch, seq}}}
}

func TestVolumes_olderEntriesAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		cmds    []Command
		refused Code
		there   bool
	}{
		{"newer", []Command{put("v", 1, 1), put("v", 1, 2)}, "", true},
		{"same again", []Command{put("v", 1, 2), put("v", 1, 2)}, "", true},
		{"older seq", []Command{put("v", 1, 2), put("v", 1, 1)}, CodeStale, true},
		{"older epoch", []Command{put("v", 2, 1), put("v", 1, 9)}, CodeStale, true},
		{"older than its removal", []Command{gone("v", 1, 5), put("v", 1, 4)}, CodeStale, false},
		{"put again after removal", []Command{put("v", 1, 1), gone("v", 1, 5), put("v", 1, 6)}, "", true},
		{"removal older than put", []Command{put("v", 1, 6), gone("v", 1, 5)}, CodeStale, true},
		{"removal twice", []Command{put("v", 1, 1), gone("v", 1, 5), gone("v", 1, 5)}, CodeStale, false},
		{"older than the reconcile", []Command{&MirrorReplace{Domain: "d", Epoch: 3}, put("v", 2, 9)}, CodeStale, false},
		{"no such domain", []Command{&VolumesPut{Volumes: []Volume{{ID: "v", Domain: "e"}}}}, CodeNotFound, false},
		{"no id", []Command{&VolumesPut{Volumes: []Volume{{Domain: "d"}}}}, CodeInvalid, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := cluster(t)
			out := last(t, f, c.cmds...)
			var code Code
			if len(out.Refused) > 0 {
				code = out.Refused[0].Code
			}
			if _, there := f.View().Volume("d", "v"); code != c.refused || there != c.there {
				t.Errorf("refused %q there %v, want %q %v", code, there, c.refused, c.there)
			}
		})
	}
}

func TestMirrorReplace_reportsDifferencesAndKeepsNewerEntries(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	run(t, f, put("stays", 1, 1), put("gone", 1, 2), put("differs", 1, 3), put("newer", 2, 9))
	stays, _ := f.View().Volume("d", "stays")
	out := last(t, f, &MirrorReplace{Domain: "d", Epoch: 2, Seq: 0, RecordEvents: true, Volumes: []Volume{
		{ID: "stays", Name: stays.Name}, {ID: "differs", Name: "other"}, {ID: "added"}}})
	if fmt.Sprint(out.Added, out.Removed, out.Changed) != "[added] [gone] [differs]" {
		t.Errorf("added %v removed %v changed %v", out.Added, out.Removed, out.Changed)
	}
	if _, ok := f.View().Volume("d", "newer"); !ok {
		t.Error("an entry newer than the reading was removed")
	}
	if got := len(f.View().Events()); got != 3 {
		t.Errorf("%d events, want 3", got)
	}
	if out := last(t, f, &MirrorReplace{Domain: "d", Epoch: 1, Seq: 9}); !errors.Is(out.Err(), ErrStale) {
		t.Errorf("an older reading was taken: %+v", out)
	}
}

func TestTombstones_areBoundedWithoutLettingOldEntriesIn(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	refs := make([]VolumeRef, maxTombs+100)
	for i := range refs {
		refs[i] = VolumeRef{"d", fmt.Sprint("v", i), 1, uint64(i + 1)}
	}
	run(t, f, &VolumesRemove{Volumes: refs})
	if got := f.tables.tombs.Len(); got > maxTombs || f.tables.tombOrder.Len() != got {
		t.Errorf("%d tombstones", got)
	}
	for _, i := range []int{0, 50, 150, len(refs) - 1} {
		if out := last(t, f, put(fmt.Sprint("v", i), 1, uint64(i))); len(out.Refused) != 1 {
			t.Errorf("v%d came back", i)
		}
	}
}

func TestApply_unknownCommands(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	at := f.View().Index
	if out := f.Apply(at+1, []byte{0x80 | 0x7f, 1, 0xa0, 0x80}).(Outcome); !out.Skipped || out.Err() != nil {
		t.Errorf("a skippable command: %+v", out)
	}
	for _, data := range [][]byte{{byte(kindEventAdd) | skippableBit, 99, 0xa0, 0x80}, nil, {1}, {byte(kindConfigSet), 1, 0xc1}} {
		before := f.View().TooOld
		f.Apply(at+2, data)
		if f.View().TooOld != before {
			t.Errorf("%x made the state machine too old", data)
		}
	}
	if out := f.Apply(at+3, []byte{0x7f, 1, 0xa0, 0x80}).(Outcome); !errors.Is(out.Err(), ErrTooOld) {
		t.Errorf("an unknown command: %+v", out)
	}
	if out := last(t, f, &ConfigSet{Key: "k", Value: "v"}); !errors.Is(out.Err(), ErrTooOld) || f.View().Config.Has("k") {
		t.Errorf("applied after it was too old: %+v", out)
	}
	if _, err := f.Snapshot(); !errors.Is(err, ErrTooOld) {
		t.Errorf("snapshot: %v", err)
	}
	if _, err := f.WaitIndex(context.Background(), at+10); !errors.Is(err, ErrTooOld) {
		t.Errorf("waiting: %v", err)
	}
}

func TestRequests_areBoundedAndRemembered(t *testing.T) {
	t.Parallel()
	f := New()
	add := &EventAdd{Events: []Event{{Kind: "k"}}}
	for i := range maxRequests + 10 {
		data, err := Encode(add, fmt.Sprint("r", i))
		if err != nil {
			t.Fatal(err)
		}
		f.Apply(uint64(i+1), data)
	}
	if got := f.tables.requests.Len(); got != maxRequests || f.tables.requestOrder.Len() != got {
		t.Errorf("%d requests kept", got)
	}
	if got := len(f.View().Events()); got != MaxEvents {
		t.Errorf("%d events kept", got)
	}
	data, _ := Encode(add, "r100")
	if out := f.Apply(1<<20, data).(Outcome); !out.Duplicate || out.Index != 101 {
		t.Errorf("retry: %+v", out)
	}
}

func TestWaitIndex_wakesAndEnds(t *testing.T) {
	t.Parallel()
	f := New()
	done := make(chan error, 1)
	go func() { _, err := f.WaitIndex(context.Background(), 1); done <- err }()
	run(t, f, &ConfigSet{Key: "k", Value: "v"})
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := f.WaitIndex(ctx, 99); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
