package check

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

const ms = time.Millisecond

// steady is a run of two minutes in which each host is asked for a create and a read ten times a second; outage says when creates
// fail, and silent which host does not answer reads.
func steady(t *testing.T, faults []history.Fault, outage, silent func(host string, at time.Duration) bool) Record {
	t.Helper()
	no := func(string, time.Duration) bool { return false }
	if outage == nil {
		outage = no
	}
	if silent == nil {
		silent = no
	}
	r := Record{Folder: t.TempDir(), Faults: faults, Run: history.Run{Hosts: []string{"a", "b", "c"}, Lasted: 2 * time.Minute,
		Bounds: history.Bounds{IOTimeout: time.Second, Watchdog: 2 * time.Second}}}
	for at := 10 * ms; at < r.Run.Lasted; at += 100 * ms {
		for _, h := range r.Run.Hosts {
			c := history.Op{Kind: history.VolumeCreate, Host: h, Call: at, Return: at + 20*ms, Outcome: history.OK}
			if outage(h, at) {
				c.Outcome = history.Failed
			}
			l := history.Op{Kind: history.VolumeList, Host: h, Call: at, Return: at + ms, Outcome: history.OK, Stale: true}
			if silent(h, at) {
				l.Outcome, l.Return = history.Unknown, history.Forever
			}
			r.Ops = append(r.Ops, c, l)
			r.Samples = append(r.Samples, history.Sample{At: at, Host: h, Answered: !silent(h, at)})
		}
	}
	return r
}

func between(from, to time.Duration) func(string, time.Duration) bool {
	return func(_ string, at time.Duration) bool { return at >= from && at < to }
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	const s = time.Second
	one := func(kind string, begin, end time.Duration) []history.Fault {
		return []history.Fault{{Kind: kind, Targets: []string{"a"}, Begin: begin, End: end}}
	}
	tests := []struct {
		name   string
		faults []history.Fault
		outage func(string, time.Duration) bool
		want   string
	}{
		{"nothing stops", one("kill.agent", 20*s, 25*s), nil, ""},
		{"an agent's crash within its second", one("kill.agent", 20*s, 25*s), between(20*s, 21*s), ""},
		{"an agent's crash takes too long", one("kill.agent", 20*s, 25*s), between(20*s, 26*s), "kill.agent [a] at 20.000s: creates stopped for 6."},
		{"a network cut", one("net.one", 20*s, 40*s), between(20*s, 26*s), "is allowed (the SPM lost the network"},
		{"a lost path, until the host is dead", one("path.cut", 20*s, 40*s), between(20*s, 31*s), ""},
		{"a lost path takes longer than death", one("path.cut", 20*s, 40*s), between(20*s, 36*s), "path.cut"},
		{"the LUN is gone: counted from its return", one("lun.gone", 20*s, 50*s), between(20*s, 58*s), ""},
		{"the LUN is back, and nothing goes on", one("lun.gone", 20*s, 50*s), between(20*s, 70*s), "lun.gone"},
		{"two at once, healed in time", append(one("net.one", 20*s, 40*s), one("path.cut", 22*s, 45*s)...), between(20*s, 50*s), ""},
		{"two at once, never back", append(one("net.one", 20*s, 40*s), one("path.cut", 22*s, 45*s)...), between(20*s, 130*s), "after everything was healed at 45.000s"},
		{"a fault that nobody knows", one("gremlin", 20*s, 40*s), nil, "faults of kind gremlin have no bound"},
		{"no creates", nil, between(0, 200*s), "no create was answered"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect(t, Available(steady(t, tt.faults, tt.outage, nil)), tt.want)
		})
	}
}

func TestAvailability(t *testing.T) {
	t.Parallel()
	const s = time.Second
	faults := []history.Fault{
		{Kind: "kill.agent", Targets: []string{"a"}, Begin: 20 * s, End: 21 * s},
		{Kind: "kill.agent", Targets: []string{"b"}, Begin: 60 * s, End: 61 * s},
	}
	rows := Availability(steady(t, faults, func(h string, at time.Duration) bool {
		return between(20*s, 22*s)(h, at) || between(60*s, 66*s)(h, at) || h == "c" && between(60*s, 64*s)(h, at)
	}, nil))
	if len(rows) != 4 {
		t.Fatalf("creates and reads at any and at each host are four rows: %+v", rows)
	}
	r := rows[0]
	if r.Group != Creates || r.Where != AnyHost || r.N != 2 || r.Alone != 2 || r.Over != 1 {
		t.Errorf("creates: %+v", r)
	}
	if r.P50 < 1900*ms || r.P50 > 2100*ms || r.Max < 5900*ms || r.Max > 6100*ms || r.P99 != r.Max || r.Bound != time.Second+Slack {
		t.Errorf("creates: %+v", r)
	}
	if rows[2].Group != Reads || rows[2].Max > 10*ms {
		t.Errorf("reads never stopped: %+v", rows[2])
	}
}

func TestGroupOf(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]history.Op{
		Creates: {Kind: history.VolumeCreate}, Reads: {Kind: history.VolumeShow, Input: json.RawMessage(`{"id":"x"}`)},
		ConsistentReads: {Kind: history.VolumeList, Input: json.RawMessage(`{"consistent":true}`)}, "": {Kind: history.SPMMove},
	} {
		if got := groupOf(o); got != want {
			t.Errorf("%s %s is %q", o.Kind, o.Input, got)
		}
	}
}

func TestReadsAnswered(t *testing.T) {
	t.Parallel()
	const s = time.Second
	silent := func(h string, at time.Duration) bool { return h == "b" && between(30*s, 33*s)(h, at) }
	kill := func(kind, host string) []history.Fault {
		return []history.Fault{{Kind: kind, Targets: []string{host}, Begin: 30 * s, End: 32 * s}}
	}
	expect(t, ReadsAnswered(steady(t, nil, nil, nil)), "")
	expect(t, ReadsAnswered(steady(t, kill("kill.agent", "b"), nil, silent)), "")
	expect(t, ReadsAnswered(steady(t, kill("kill.agent", "a"), nil, silent)), "b did not answer")
	expect(t, ReadsAnswered(steady(t, kill("net.one", "b"), nil, silent)), "b did not say how the pool is")
	expect(t, ReadsAnswered(steady(t, nil, nil, func(h string, _ time.Duration) bool { return h == "c" })), "c did not answer")
	slow := steady(t, nil, nil, nil)
	slow.Ops[1].Return = 5 * s
	expect(t, ReadsAnswered(slow), "a took 4.99s")
	dead := steady(t, []history.Fault{{Kind: "kill.agent", Targets: []string{"b"}, Begin: 1, End: 120 * s}}, nil, nil)
	expect(t, ReadsAnswered(dead), "b was never asked")
}

// An agent that is killed while its disk hangs is gone when the disk goes on, and does not answer from the kill on.
func TestKilled(t *testing.T) {
	t.Parallel()
	faults := []history.Fault{{Kind: "disk.hang", Targets: []string{"h1"}, Begin: 10 * time.Second, End: 30 * time.Second}}
	for _, c := range []struct {
		host       string
		gone, want time.Duration
	}{
		{"h1", 30500 * time.Millisecond, 10 * time.Second}, {"h1", 60 * time.Second, 60*time.Second - exitTime},
		{"h2", 30500 * time.Millisecond, 30500*time.Millisecond - exitTime}, {"h1", 5 * time.Second, 5*time.Second - exitTime},
	} {
		if got := killed(faults, c.host, c.gone); got != c.want {
			t.Errorf("%s, gone at %v: from %v, want %v", c.host, c.gone, got, c.want)
		}
	}
}

// Of two hosts nothing can be done without either: what a fault costs counts from its healing.
func TestAvailable_twoHosts(t *testing.T) {
	t.Parallel()
	run := func(until time.Duration) history.Verdict {
		r := steady(t, []history.Fault{{Kind: "power.dead", Targets: []string{"a"}, Begin: 30 * time.Second, End: 60 * time.Second}}, between(30*time.Second, until), nil)
		r.Run.Hosts = r.Run.Hosts[:2]
		return Available(r)
	}
	if v := run(70 * time.Second); !v.OK {
		t.Errorf("well ten seconds after it: %v", v.Faults)
	}
	if v := run(90 * time.Second); v.OK {
		t.Error("30 s after it were allowed")
	}
}
