package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// history is a log of random commands over few names, so that they meet.
func history(t testing.TB, seed uint64, n int) []Entry {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(prefix string, n int) string { return fmt.Sprint(prefix, r.IntN(n)) }
	log := make([]Entry, 0, n)
	add := func(c Command, id string) {
		data, err := Encode(c, id)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, Entry{Index: uint64(len(log))*2 + 1, Data: data})
	}
	add(&ClusterInit{ClusterID: "c", Version: 1, Host: Host{Name: "h0"}, Time: 1}, "")
	vol := func() Volume {
		return Volume{ID: pick("v", 20), Domain: pick("d", 3), Name: pick("n", 10), Size: r.Int64N(100), Epoch: r.Uint64N(4), Seq: r.Uint64N(50)}
	}
	vols := func() (out []Volume) {
		for range r.IntN(8) {
			out = append(out, vol())
		}
		return out
	}
	for len(log) < n {
		now, host := int64(len(log)), pick("h", 6)
		var c Command
		switch r.IntN(19) {
		case 0:
			c = &TokenCreate{Token: Token{ID: pick("t", 5), Role: TokenJoin, SecretHash: "x", Expires: now + r.Int64N(50)}}
		case 1:
			c = &HostJoin{Host: Host{Name: host, KeyHash: host}, TokenID: pick("t", 5), Time: now}
		case 2:
			c = &HostUpdate{Name: host, State: new(pick("s", 3)), Generation: new(r.Uint64N(5)), Time: now}
		case 3:
			c = &ProofAdd{Proof: Proof{Kind: ProofExit, Host: host, HostID: r.IntN(6), Generation: r.Uint64N(5), Time: now}}
		case 4:
			c = &HostRemove{Name: host, Time: now}
		case 5:
			c = &PoolCreate{Pool: Pool{ID: pick("p", 2)}, Time: now}
		case 6:
			c = &SPMUpdate{Pool: pick("p", 2), ExpectEpoch: r.Uint64N(4), SPM: SPM{Host: host, Epoch: r.Uint64N(5)}, Time: now}
		case 7:
			c = &DomainPut{Domain: Domain{ID: pick("d", 3), Epoch: r.Uint64N(4), Seq: r.Uint64N(50)}}
		case 8:
			c = &DomainRemove{ID: pick("d", 3), Epoch: r.Uint64N(4), Seq: r.Uint64N(50)}
		case 9, 10, 11:
			c = &VolumesPut{Volumes: vols()}
		case 12:
			c = &VolumesRemove{Volumes: []VolumeRef{{pick("d", 3), pick("v", 20), r.Uint64N(4), r.Uint64N(50)}}}
		case 13:
			c = &MirrorReplace{Domain: pick("d", 3), Epoch: r.Uint64N(4), Seq: r.Uint64N(50), Volumes: vols(), Time: now, RecordEvents: true}
		case 14:
			c = &ConfigSet{Key: pick("k", 5), Value: pick("", 3)}
		default:
			c = managerCommand(r, now)
		}
		add(c, pick("r", n))
	}
	return log
}

// managerCommand is a random command of the manager over the names of history. Leaders of several terms meet.
func managerCommand(r *rand.Rand, now int64) Command {
	pick := func(prefix string, n int) string { return fmt.Sprint(prefix, r.IntN(n)) }
	oneOf := func(words []string) string { return words[r.IntN(len(words))] }
	host, op, term := pick("h", 3), pick("f", 40), r.Uint64N(3)+uint64(now)/100
	step := FenceStep{Rung: pick("r", 4), Result: oneOf(stepResults), Leader: pick("h", 3), Proxy: pick("h", 3), Evidence: pick("e", 9), Time: now}
	switch r.IntN(10) {
	case 0:
		return &PoolMaster{Pool: pick("p", 2), Master: pick("d", 3), Expect: oneOf([]string{"", "d0", "d1", "d2"}), MasterVersion: r.IntN(20),
			Abandoned: r.IntN(2) == 0, Force: r.IntN(2) == 0, Time: now}
	case 1:
		return &HostWish{Host: host, Want: oneOf([]string{"", WishMaintenance}), By: oneOf([]string{"ann", WishByPolicy}), Time: now}
	case 2, 3:
		return &DomainUpdate{ID: pick("d", 3), Status: new(oneOf(domainStatuses)), Failing: &[]string{pick("h", 6), pick("h", 6)}, Deadline: new(now + 5), Time: now}
	case 4:
		return &FenceDevicePut{Device: FenceDevice{Host: host, Name: pick("b", 20), Type: oneOf(fenceTypes), Order: r.IntN(3), Secret: []byte{byte(r.IntN(9))},
			Options: []Option{{"z", "1"}, {"agent", "x"}}}, Time: now}
	case 5:
		return &FenceDeviceRemove{Host: host, Name: pick("b", 20), Time: now}
	case 6, 7:
		return &FenceBegin{Term: term, Op: FenceOp{ID: op, Host: host, HostID: r.IntN(4), Generation: r.Uint64N(6), Action: oneOf(fenceActions), Began: now,
			ByPerson: r.IntN(4) == 0}}
	case 8:
		return &FenceAdvance{ID: op, Term: term, Step: step, Takeover: r.IntN(2) == 0}
	default:
		return &FenceEnd{ID: op, Term: term, Outcome: oneOf(fenceOutcomes), Time: now}
	}
}

func dump(t testing.TB, f *FSM) []byte {
	t.Helper()
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFSM_sameLog_sameState_howeverItIsCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		log := history(t, seed, 400)
		one, batched, restored := New(), New(), New()
		var outs []Outcome
		for _, e := range log {
			outs = append(outs, one.Apply(e.Index, e.Data).(Outcome))
		}
		r := rand.New(rand.NewPCG(seed, 2))
		for rest, done := log, 0; len(rest) > 0; {
			n := 1 + r.IntN(min(30, len(rest)))
			for i, out := range batched.ApplyBatch(rest[:n]) {
				if fmt.Sprint(out) != fmt.Sprint(outs[done+i]) {
					t.Fatalf("seed %d entry %d: %v alone, %v in a batch", seed, done+i, outs[done+i], out)
				}
			}
			rest, done = rest[n:], done+n
		}
		cut := r.IntN(len(log))
		for i, e := range log {
			if i == cut {
				next := New()
				if err := next.Restore(bytes.NewReader(dump(t, restored))); err != nil {
					t.Fatal(err)
				}
				restored = next
			}
			if out := restored.Apply(e.Index, e.Data).(Outcome); fmt.Sprint(out) != fmt.Sprint(outs[i]) {
				t.Fatalf("seed %d entry %d: %v, after a restore %v", seed, i, outs[i], out)
			}
		}
		want := dump(t, one)
		if !bytes.Equal(want, dump(t, batched)) || !bytes.Equal(want, dump(t, restored)) {
			t.Fatalf("seed %d: states differ", seed)
		}
		checkIndexes(t, one.View())
		for _, m := range []*FSM{one, batched, restored} {
			checkFences(t, m.View())
			checkMaster(t, m.View())
		}
	}
}

// A table that is missing in the snapshot is missing on both sides of a comparison of snapshots, so this one looks at what
// readers see.
func TestRestore_givesReadersTheSameState(t *testing.T) {
	t.Parallel()
	seen := func(s *State) string {
		return fmt.Sprint(s.Meta, s.Index, s.Hosts.Values(), s.Removed.Values(), s.Pools.Values(), s.Domains.Values(), s.Tokens.Values(), s.Proofs.Values(),
			s.Config.Values(), s.Volumes().Values(), s.Events(), s.Fences.Values(), s.OpenFences(), s.FenceDevices.Values())
	}
	devices, fences := 0, 0
	for seed := range uint64(5) {
		f, again := New(), New()
		for _, e := range history(t, seed, 400) {
			f.Apply(e.Index, e.Data)
		}
		run(t, f, &HostUpdate{Name: "h0", Witnesses: &[]Witness{{Kind: WitnessRPC, State: "silent"}}, Deadline: new(int64(7))},
			device("h0", "bmc", 1), with(begin("last"), func(c *FenceBegin) { c.Op.Host, c.Op.Generation = "h0", 99; c.Term = 99 }))
		if err := again.Restore(bytes.NewReader(dump(t, f))); err != nil {
			t.Fatal(err)
		}
		if want, got := seen(f.View()), seen(again.View()); got != want {
			t.Errorf("seed %d: restored\n%s\nwant\n%s", seed, got, want)
		}
		devices, fences = devices+f.View().FenceDevices.Len(), fences+len(f.View().OpenFences())
	}
	if devices == 0 || fences == 0 {
		t.Errorf("%d devices and %d open operations were compared", devices, fences)
	}
}

// checkFences holds the index of open fence operations against the operations, and looks for two leaders in one.
func checkFences(t *testing.T, s *State) {
	t.Helper()
	open := map[string]string{}
	for _, op := range s.Fences.All() {
		for i, step := range op.Steps {
			if i > 0 && step.Term < op.Steps[i-1].Term || step.Term > op.Term {
				t.Errorf("operation %s of term %d: step %d is of term %d, after one of a later term", op.ID, op.Term, i, step.Term)
			}
		}
		if !op.Open() {
			continue
		}
		if other, ok := open[op.Host]; ok {
			t.Errorf("operations %s and %s of host %s are open", other, op.ID, op.Host)
		}
		open[op.Host] = op.ID
		if got, ok := s.OpenFence(op.Host); !ok || got.ID != op.ID {
			t.Errorf("operation %s of host %s is open and not found", op.ID, op.Host)
		}
	}
	if got := len(s.OpenFences()); got != len(open) {
		t.Errorf("%d operations are open, %d are found", len(open), got)
	}
}

// A random history that never gets anywhere would prove nothing.
func TestHistory_reachesTheManagersRules(t *testing.T) {
	t.Parallel()
	applied, refused := map[string]int{}, map[string]int{}
	for seed := range uint64(10) {
		f := New()
		for _, e := range history(t, seed, 400) {
			if out := f.Apply(e.Index, e.Data).(Outcome); out.Code == "" {
				applied[CommandName(e.Data)]++
			} else {
				refused[CommandName(e.Data)]++
			}
		}
	}
	for k := kindPoolMaster; k <= kindFenceEnd; k++ {
		if name := registry[k].name; applied[name] == 0 || refused[name] == 0 {
			t.Errorf("%s: %d applied, %d refused", name, applied[name], refused[name])
		}
	}
}

// checkIndexes holds the secondary indexes against the volumes.
func checkIndexes(t *testing.T, s *State) {
	t.Helper()
	if s.byID.Len() != s.volumes.Len() || s.byName.Len() != s.volumes.Len() {
		t.Fatalf("%d volumes, %d by id, %d by name", s.volumes.Len(), s.byID.Len(), s.byName.Len())
	}
	for key, v := range s.volumes.All() {
		got, ok := s.Volume(v.Domain, v.ID)
		if key != volumeKey(v.Domain, v.ID) || !ok || got != v {
			t.Fatalf("volume %s is filed under %s", v.ID, key)
		}
		if !s.Domains.Has(v.Domain) {
			t.Fatalf("volume %s of a domain that is not there", key)
		}
		found := false
		for _, o := range s.VolumesByName(v.Name) {
			found = found || o == v
		}
		if !found {
			t.Fatalf("volume %s not found by name %s", key, v.Name)
		}
	}
}

func TestFSM_viewIsImmutable(t *testing.T) {
	t.Parallel()
	f := New()
	log := history(t, 99, 300)
	for _, e := range log[:150] {
		f.Apply(e.Index, e.Data)
	}
	old := f.View()
	before := fmt.Sprint(old.Volumes().Values(), old.Hosts.Values(), old.Events())
	for _, e := range log[150:] {
		f.Apply(e.Index, e.Data)
	}
	if after := fmt.Sprint(old.Volumes().Values(), old.Hosts.Values(), old.Events()); after != before {
		t.Error("a published state changed")
	}
}

func BenchmarkVolumesPut_2000(b *testing.B) {
	f := New()
	apply := func(i uint64, c Command) {
		data, err := Encode(c, fmt.Sprint("r", i))
		if err != nil {
			b.Fatal(err)
		}
		if out := f.Apply(i, data).(Outcome); out.Code != "" || len(out.Refused) > 0 {
			b.Fatal(out)
		}
	}
	apply(1, &DomainPut{Domain: Domain{ID: "d"}})
	for i := range uint64(2000) {
		apply(i+2, &VolumesPut{Volumes: []Volume{{ID: fmt.Sprintf("%08d", i), Domain: "d", Name: fmt.Sprint(i), Epoch: 1, Seq: i}}})
	}
	i := uint64(3000)
	for b.Loop() {
		i++
		apply(i, &VolumesPut{Volumes: []Volume{{ID: fmt.Sprintf("%08d", i%2000), Domain: "d", Name: fmt.Sprint(i), Epoch: 2, Seq: i}}})
	}
}
