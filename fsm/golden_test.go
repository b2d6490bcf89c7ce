package fsm

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files that are missing; never changes one that exists")

// samples has one command of every kind with every field set. A golden file is never changed: a log entry that was
// written once must be read for ever.
func samples() []Command {
	proto := ProtocolRange{1, 3}
	host := Host{Name: "h1", HostID: 7, Address: "h1:1", Gossip: "h1:2", HTTP: "h1:3", State: HostUp, Reason: "r", Since: 5,
		Generation: 6, Priority: 8, Protocol: proto, Joined: 9, KeyHash: "kh"}
	proof := Proof{Kind: ProofPowerOff, Host: "h1", HostID: 7, Generation: 6, Evidence: "off", By: "h2", Time: 10}
	vol := Volume{ID: "v", Image: "i", Domain: "d", Name: "n", Description: "x", Format: "qcow2", Allocation: "sparse",
		Parent: "p", Legality: "LEGAL", VolType: "LEAF", Size: 1 << 40, Allocated: 1 << 27, Slot: 4, Created: 11, Epoch: 12, Seq: 13}
	return append(managerSamples(proof), []Command{
		&ClusterInit{ClusterID: "c", ClusterName: "n", Version: 1, Host: host, Time: 1},
		&HostJoin{Host: host, TokenID: "t", Time: 2},
		&HostUpdate{Name: "h1", State: new("s"), Reason: new("r"), Generation: new(uint64(3)), Address: new("a"),
			Gossip: new("g"), HTTP: new("h"), Priority: new(4), Protocol: &proto, Time: 5},
		&HostRemove{Name: "h1", Proof: &proof, Time: 3},
		&PoolCreate{Pool: Pool{ID: "p", Name: "n", Master: "m", Profile: "fast", Created: 1,
			SPM: SPM{Host: "h1", HostID: 7, Epoch: 2, State: SPMServing, Since: 3, Reason: "r", Desired: DesireAny}}, Time: 4},
		&SPMUpdate{Pool: "p", ExpectEpoch: 2, SPM: SPM{Host: "h1", HostID: 7, Epoch: 3, State: SPMStarting, Reason: "r"}, Time: 5},
		&SPMDesire{Pool: "p", Desired: DesireStopped, Time: 6},
		&DomainPut{Domain: Domain{ID: "d", Name: "n", Type: "block", Role: "master", Status: "active", Version: 5, Size: 1 << 36,
			Free: 1 << 35, ExtentSize: 1 << 27, SectorSize: 512, LUNs: []string{"/dev/x"}, Epoch: 1, Seq: 2}},
		&DomainRemove{ID: "d", Epoch: 3, Seq: 4},
		&VolumesPut{Volumes: []Volume{vol}},
		&VolumesRemove{Volumes: []VolumeRef{{Domain: "d", ID: "v", Epoch: 3, Seq: 4}}},
		&MirrorReplace{Domain: "d", Epoch: 5, Seq: 6, Volumes: []Volume{vol}, Host: "h1", Time: 7, RecordEvents: true},
		&EventAdd{Events: []Event{{Time: 1, Kind: "k", Severity: Warning, Host: "h1", Subject: "s", Message: "m", Epoch: 2}}},
		&TokenCreate{Token: Token{ID: "t", Role: TokenJoin, SecretHash: "sh", Expires: 9, Created: 1}},
		&TokenUse{ID: "t", Role: TokenJoin, By: "h1", Time: 2},
		&TokenRevoke{ID: "t"},
		&ProofAdd{Proof: proof},
		&ConfigSet{Key: "k", Value: "v"},
		&VersionSet{Version: 1},
	}...)
}

// managerSamples are the samples of the manager's commands.
func managerSamples(proof Proof) []Command {
	step := FenceStep{Rung: "power_off", Device: "bmc", Proxy: "h2", Term: 3, Leader: "h3", Time: 21, Result: StepIntent, Evidence: "e"}
	return []Command{
		&PoolMaster{Pool: "p", Master: "d2", Expect: "d1", MasterVersion: 3, Host: "h1", By: "ann", Reason: "r", Abandoned: true, Force: true, Time: 12},
		&HostWish{Host: "h1", Want: WishMaintenance, Expect: new(""), By: "ann", Reason: "r", Time: 13},
		&DomainUpdate{ID: "d", Status: new(DomainInactive), Reason: new("r"), Deadline: new(int64(14)), Failing: &[]string{"h1", "h2"},
			Expect: new(DomainActive), Time: 15},
		&FenceDevicePut{Time: 16, Device: FenceDevice{Host: "h1", Name: "bmc", Type: FenceExec, Order: 1, Address: "a", Port: 623, User: "u", Secret: []byte{1, 2},
			Options: []Option{{"agent", "fence_ipmilan"}, {"lanplus", "1"}}, Proxies: []string{"h2"}, Disabled: true, Updated: 17}},
		&FenceDeviceRemove{Host: "h1", Name: "bmc", Time: 18},
		&FenceBegin{Term: 3, Op: FenceOp{ID: "f1", Host: "h1", HostID: 7, Generation: 6, Action: FenceRestart, Reason: "r", By: "ann", ByPerson: true,
			Began: 19, Term: 3, Steps: []FenceStep{step}, Ended: 20, Outcome: FenceDone, Detail: "d", Leader: "h3", Proxy: "h2", ProofGeneration: 6}},
		&FenceAdvance{ID: "f1", Term: 4, Step: step, Takeover: true},
		&FenceEnd{ID: "f1", Term: 4, Outcome: FenceDone, Detail: "d", Time: 22, Proof: &proof},
	}
}

func TestEncode_matchesGoldenBytes(t *testing.T) {
	t.Parallel()
	seen := map[kind]bool{}
	for _, c := range samples() {
		seen[c.kind()] = true
		name := registry[c.kind()].name
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := Encode(c, "request-1")
			if err != nil {
				t.Fatal(err)
			}
			want := golden(t, name, data)
			if !bytes.Equal(data, want) {
				t.Errorf("encoded\n%x\nwant\n%x", data, want)
			}
			got, id, err := Decode(want)
			if err != nil || id != "request-1" || !reflect.DeepEqual(got, c) {
				t.Errorf("decoded %+v, %q, %v\nwant %+v", got, id, err, c)
			}
		})
	}
	for k, spec := range registry {
		if !seen[k] {
			t.Errorf("no sample of command %s", spec.name)
		}
	}
}

// Fields that came later have golden bytes of their own; without them the old bytes must come out.
func TestEncode_laterFields(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Command{
		"proof-add-spaces": &ProofAdd{Proof: Proof{Kind: ProofPowerOff, Host: "h1", HostID: 7, Generation: 6, Evidence: "off", By: "h2", Time: 10,
			Spaces: []SpaceRecord{{Lockspace: "d", Generation: 6, Timestamp: 77}, {Lockspace: "e", Generation: 2}}}},
		"domain-put-waiting": &DomainPut{Domain: Domain{ID: "d", Name: "n", Type: "block", Size: 1 << 36, Free: 1 << 27, LUNs: []string{"/dev/x"}, Epoch: 1,
			Seq: 2, Waiting: 3, Needed: 1 << 33}},
		"domain-put-verdict": &DomainPut{Domain: Domain{ID: "d", Reason: "r", Since: 1, Deadline: 2, Failing: []string{"h1"}}},
		"host-update-manager": &HostUpdate{Name: "h1", Time: 5, Deadline: new(int64(9)),
			Witnesses: &[]Witness{{Kind: WitnessLease, Subject: "d", State: "live", Detail: "x", Since: 4}}},
		"host-join-manager": &HostJoin{Host: Host{Name: "h1", Deadline: 3, Wish: Wish{Want: WishMaintenance, By: "ann", Reason: "r", Time: 1},
			Witnesses: []Witness{{Kind: WitnessGossip, State: "alive", Since: 2}}}, TokenID: "t", Time: 2},
		"pool-create-master": &PoolCreate{Pool: Pool{ID: "p", MasterVersion: 2, MasterSince: 3,
			Former: []FormerMaster{{Domain: "d", Version: 1, Until: 3, Abandoned: true}}}, Time: 4},
		"event-add-evidence":   &EventAdd{Events: []Event{{Time: 1, Kind: "k", Reason: "r", Evidence: "e"}}},
		"pool-create-test":     &PoolCreate{Pool: Pool{ID: "p", Name: "n", Profile: "dev", Test: true}, Time: 4},
		"host-update-space":    &HostUpdate{Name: "h1", Time: 5, Generation: new(uint64(3)), Space: "d2"},
		"host-update-watchdog": &HostUpdate{Name: "h1", Time: 5, Watchdog: new(WatchdogWdmd), WatchdogTime: new(60)},
		"host-join-watchdog":   &HostJoin{Host: Host{Name: "h1", Watchdog: WatchdogDevice, WatchdogTime: 10}, TokenID: "t", Time: 2},
	} {
		data, err := Encode(c, "request-1")
		if err != nil {
			t.Fatal(err)
		}
		want := golden(t, name, data)
		got, _, err := Decode(want)
		if !bytes.Equal(data, want) || err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%s encoded\n%x\nwant\n%x\ndecoded %+v, %v", name, data, want, got, err)
		}
	}
}

func golden(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".hex")
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		text = []byte(hex.EncodeToString(data) + "\n")
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return want
}
