package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
)

// statesNow is the time of the scrape in these tests; at gives times before it.
var statesNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(ago time.Duration) int64 { return statesNow.Add(-ago).UnixNano() }

// recorded is a replicated state that tests build from commands.
type recorded struct {
	t *testing.T
	*fsm.FSM
}

func (r recorded) do(cmds ...fsm.Command) {
	r.t.Helper()
	for _, c := range cmds {
		b, err := fsm.Encode(c, "")
		if err != nil {
			r.t.Fatal(err)
		}
		if out := r.Apply(r.View().Index+1, b).(fsm.Outcome); out.Err() != nil {
			r.t.Fatalf("%T: %v", c, out.Err())
		}
	}
}

const statesDomain = "0f8a3c52-51d1-4f0e-8d2b-7d5a0f3f2b02"

// recordedPool is a pool with trouble: h2 is being fenced, h3 goes into maintenance.
func recordedPool(t *testing.T) recorded {
	t.Helper()
	r := recorded{t, fsm.New()}
	join := func(name string) []fsm.Command {
		return []fsm.Command{&fsm.TokenCreate{Token: fsm.Token{ID: name, Role: fsm.TokenJoin, SecretHash: "x", Expires: at(-time.Hour)}},
			&fsm.HostJoin{Host: fsm.Host{Name: name, KeyHash: name}, TokenID: name, Time: at(time.Hour)}}
	}
	r.do(&fsm.ClusterInit{ClusterID: "c", Version: 1, Host: fsm.Host{Name: "h1", Watchdog: fsm.WatchdogDevice}, Time: at(2 * time.Hour)})
	r.do(join("h2")...)
	r.do(join("h3")...)
	r.do(&fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Master: statesDomain}, Time: at(2 * time.Hour)},
		&fsm.SPMUpdate{Pool: "p", SPM: fsm.SPM{Host: "h1", HostID: 1, Epoch: 7, State: fsm.SPMServing}, Time: at(30 * time.Minute)},
		&fsm.SPMDesire{Pool: "p", Desired: fsm.DesireHost + "h1"},
		&fsm.DomainPut{Domain: fsm.Domain{ID: statesDomain, Name: "san1", Role: fsm.RoleMaster, Epoch: 7, Size: 100 << 30}},
		&fsm.HostUpdate{Name: "h1", State: new(fsm.HostUp), Time: at(time.Hour)},
		&fsm.HostUpdate{Name: "h2", State: new(fsm.HostFencing), Deadline: new(at(-20 * time.Second)), Time: at(90 * time.Second),
			Witnesses: &[]fsm.Witness{{Kind: fsm.WitnessRPC, State: "silent"}, {Kind: fsm.WitnessLease, Subject: statesDomain, State: "FAIL"}}},
		&fsm.HostUpdate{Name: "h3", State: new("sleeping"), Time: at(5 * time.Second)}, // of a newer program
		&fsm.HostWish{Host: "h3", Want: fsm.WishMaintenance, By: "admin", Time: at(5 * time.Second)},
		&fsm.DomainUpdate{ID: statesDomain, Status: new(fsm.DomainInactive), Failing: &[]string{"h2", "h3"}, Deadline: new(at(3 * time.Second)), Time: at(10 * time.Second)},
		&fsm.FenceDevicePut{Device: fsm.FenceDevice{Host: "h2", Name: "bmc", Type: fsm.FenceIPMI, Address: "10.9.9.2"}},
		&fsm.FenceDevicePut{Device: fsm.FenceDevice{Host: "h2", Name: "pdu", Type: fsm.FenceRedfish, Address: "10.9.9.3", Disabled: true}},
		&fsm.FenceBegin{Op: fsm.FenceOp{ID: "20261122-1", Host: "h2", HostID: 2, Action: fsm.FenceOff, Began: at(12 * time.Second),
			Steps: []fsm.FenceStep{{Rung: "power", Result: fsm.StepIntent}}}, Term: 3},
		&fsm.ConfigSet{Key: "domain/" + statesDomain + "/warn_percent", Value: "15"},
		&fsm.ConfigSet{Key: fsm.ConfigDisarmedUntil, Value: fmt.Sprint(at(-10 * time.Minute))},
		&fsm.ProofAdd{Proof: fsm.Proof{Kind: fsm.ProofPowerOff, Host: "h2", HostID: 2, Generation: 1, Time: at(time.Hour)}},
		&fsm.EventAdd{Events: []fsm.Event{{Kind: "fence.begin", Severity: fsm.Warning, Host: "h2"}}})
	return r
}

// statesOf collects from a state, on a leader when there is a status.
func statesOf(r recorded, status *manager.Status) *stateCollector {
	return &stateCollector{view: r.View, now: func() time.Time { return statesNow }, tally: newTally(), lead: func() (manager.Status, bool) {
		if status == nil {
			return manager.Status{}, false
		}
		return *status, true
	}}
}

// exposed is a scrape as text.
func exposed(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestStateCollector_everyState(t *testing.T) {
	t.Parallel()
	status := &manager.Status{Row: manager.RowFence, Action: manager.ActFence, In: 8 * time.Second, At: statesNow.Add(-3 * time.Second)}
	goldenOutput(t, "metrics-states", exposed(t, statesOf(recordedPool(t), status)))
}

func TestStateCollector_namesFollowTheRules(t *testing.T) {
	t.Parallel()
	c := statesOf(recordedPool(t), &manager.Status{At: statesNow, In: time.Second})
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestStateCollector_followersDecideNothing(t *testing.T) {
	t.Parallel()
	out := exposed(t, statesOf(recordedPool(t), nil))
	if strings.Contains(out, "holdfast_spm_decision") || strings.Contains(out, "holdfast_spm_awaited") {
		t.Errorf("%s", out)
	}
	if out := exposed(t, &stateCollector{view: func() *fsm.State { return nil }, tally: newTally()}); out != "" {
		t.Errorf("before membership: %s", out)
	}
}

// Names come from peers and LUNs; the library panics at what is no text.
func TestStateCollector_garbageInNames(t *testing.T) {
	t.Parallel()
	r := recordedPool(t)
	bad := "a\xff\nb"
	r.do(&fsm.DomainPut{Domain: fsm.Domain{ID: "d2", Name: bad, Epoch: 7}},
		&fsm.HostUpdate{Name: "h1", State: &bad, Witnesses: &[]fsm.Witness{{Kind: bad, Subject: bad, State: bad}}, Time: 1})
	c := statesOf(r, &manager.Status{Row: manager.Row(bad), At: statesNow})
	exposed(t, c)
	r.do(&fsm.EventAdd{Events: []fsm.Event{{Kind: bad, Severity: bad}}})
	if out := exposed(t, c); !strings.Contains(out, "a\uFFFD") {
		t.Errorf("%s", out)
	}
}

func (r recorded) happen(n int, kind string) {
	r.t.Helper()
	for range n {
		r.do(&fsm.EventAdd{Events: []fsm.Event{{Kind: kind, Severity: fsm.Info}, {Kind: kind, Severity: fsm.Error}}})
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	r := recordedPool(t)
	y := newTally()
	wants := func(counts string) {
		t.Helper()
		for range 2 { // looking again counts nothing anew
			y.count(r.View())
		}
		got := fmt.Sprint(testutil.ToFloat64(y.events.WithLabelValues("k", fsm.Error)), testutil.ToFloat64(y.events.WithLabelValues("fence.begin", fsm.Warning)),
			testutil.ToFloat64(y.fences.WithLabelValues(fsm.FenceOff, fsm.FenceDone)), testutil.ToFloat64(y.missed))
		if got != counts {
			t.Errorf("counted %s, not %s", got, counts)
		}
	}
	r.happen(3, "k")
	wants("0 0 0 0") // what was there before
	r.happen(5, "k")
	wants("5 0 0 0")
	r.do(&fsm.FenceEnd{ID: "20261122-1", Term: 3, Outcome: fsm.FenceDone, Time: at(0)})
	wants("5 0 1 0")
	r.happen(fsm.MaxEvents/2-1, "k") // the last one that was counted is still there
	wants(fmt.Sprint(5+fsm.MaxEvents/2-1, " 0 1 0"))
	r.happen(fsm.MaxEvents, "flood")
	wants(fmt.Sprint(5+fsm.MaxEvents/2-1, " 0 1 1"))
	for i := range 2 * maxSeries {
		r.happen(1, fmt.Sprint("kind-", i))
		y.count(r.View())
	}
	if n := testutil.CollectAndCount(y.events); n > maxSeries+8 {
		t.Errorf("%d series of events", n)
	}
}
