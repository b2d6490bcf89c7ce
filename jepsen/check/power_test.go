package check

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// drama is a run with three hosts of dev times, in which h1 hangs, is fenced by h2 through h3 at 20 s, and is freed. Each test spoils it.
type drama struct {
	script
	power  []history.Power
	ops    []api.FenceOp
	events []api.Event
	faults []history.Fault
	terms  []history.Sample
}

var dramaBegan = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func on(at time.Duration) time.Time { return dramaBegan.Add(at) }

const sec = time.Second

// intent is what h3 and h2 had committed when an order came.
func intent(op string) history.Intent {
	return history.Intent{By: "h3", Op: op, Order: history.PowerOrderOff, Term: 7, Leader: "h2", Through: "h3"}
}

// proof is an operation of h2 that ended with a proof about generation 1 of a host.
func proof(id, host, rung string, began, ended time.Duration) api.FenceOp {
	return api.FenceOp{ID: id, Host: host, Generation: 1, Action: "restart", Began: on(began), Ended: on(ended), Outcome: "done", Leader: "h2", Term: 7, Proven: true,
		Steps: []api.FenceStep{{Rung: "rpc", Result: "failed", Term: 7}, {Rung: rung, Result: "intent", Term: 7, Through: "h3"}, {Rung: rung, Result: "ok", Term: 7}}}
}

// moment moves the script's clock.
func (d *drama) moment(at time.Duration) { d.now = at }

// renewals keeps a host's record alive, every two seconds.
func (d *drama) renewals(host string, id uint64, from, to time.Duration) {
	for t := from; t <= to; t += 2 * sec {
		d.moment(t)
		d.renew(host, id, 1)
	}
}

// frees writes the record of a host id free.
func (d *drama) frees(by, host string, id uint64, at time.Duration) {
	d.moment(at)
	d.put(by, atIDs+int64(id-1)*sectorSize, sector(magicHost, id, 1, 0, 0, 0, host))
}

func (d *drama) event(at time.Duration, kind, host string) {
	d.events = append(d.events, api.Event{ID: "1.1", Time: on(at), Kind: kind, Host: host})
}

func newDrama() *drama {
	d := &drama{}
	d.renewals("h1", 1, sec, 17*sec)
	d.event(2*sec, "host.up", "h1")
	d.power = []history.Power{
		{Host: "h1", Kind: history.PowerAskStatus, At: 18 * sec, Told: 18 * sec, Said: "on"},
		{Host: "h1", Kind: history.PowerOrderOff, At: 19 * sec, Told: 20 * sec, Said: "done", Intents: []history.Intent{intent("f1")}},
		{Host: "h1", Kind: history.PowerIsOff, At: 19500 * time.Millisecond},
		{Host: "h1", Kind: history.PowerIsOn, At: 26 * sec},
	}
	d.ops = []api.FenceOp{proof("f1", "h1", rungPower, 18500*time.Millisecond, 20*sec)}
	d.frees("h3", "h1", 1, 20500*time.Millisecond)
	d.event(21*sec, "host.down", "h1")
	return d
}

// judge writes the run down and has it judged.
func (d *drama) judge(t *testing.T, c func(Record) history.Verdict) history.Verdict {
	t.Helper()
	r := Record{Folder: t.TempDir(), Entries: d.all, Faults: d.faults, Samples: d.terms, Run: history.Run{Began: dramaBegan, Lasted: 60 * sec,
		Hosts: []string{"h1", "h2", "h3"}, Fencing: true, Bounds: history.Bounds{IOTimeout: sec, Watchdog: 2 * sec}}}
	var seen []Seen
	for _, e := range d.events {
		seen = append(seen, Seen{At: e.Time.Sub(dramaBegan), Event: &e})
	}
	lines(t, r.Folder, history.PowerFile, d.power)
	lines(t, r.Folder, EventsFile, seen)
	for name, v := range map[string]any{LayoutFile: testLayout(), FencesFile: map[string][]api.FenceOp{"h2": d.ops, "h3": d.ops}} {
		b, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(r.Folder, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c(r)
}

// lines writes a file of records.
func lines[T any](t *testing.T, folder, name string, all []T) {
	t.Helper()
	l, err := history.NewLog[T](folder, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		l.Add(v)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// plot is a drama that was changed, and what a checker must say; empty: nothing.
type plot struct {
	name  string
	spoil func(d *drama)
	want  string
}

func act(t *testing.T, c func(Record) history.Verdict, plots []plot) {
	t.Helper()
	for _, p := range plots {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			d := newDrama()
			p.spoil(d)
			v := d.judge(t, c)
			if said := strings.Join(v.Faults, "\n"); v.OK != (p.want == "") || !strings.Contains(said, p.want) {
				t.Errorf("%s\n%s\nwant %q", v.Summary, said, p.want)
			}
		})
	}
}

func TestDeaths(t *testing.T) {
	t.Parallel()
	act(t, Deaths, []plot{
		{"as it must be", func(*drama) {}, ""},
		{"its power was on", func(d *drama) { d.power = d.power[:2] }, "its power was on all the time"},
		{"it was off later", func(d *drama) { d.power[2].At = 23 * sec }, "its power was on all the time"},
		{"another one was off", func(d *drama) { d.power[2].Host, d.power[3].Host = "h3", "h3" }, "its power was on all the time"},
		{"it was off before", func(d *drama) { d.power[2].At, d.power[3].At = 3*sec, 4*sec }, "its power was on all the time"},
		{"it was off already", func(d *drama) { d.power[2].At = 17500 * time.Millisecond }, ""},
		{"freed before the proof", func(d *drama) { d.ops[0].Ended = on(24 * sec); d.events = d.events[:1] }, "nothing had proved its death"},
		{"freed without a proof", func(d *drama) { d.ops = nil; d.events = d.events[:1] }, "nothing had proved its death"},
		{"the proof is about another life", func(d *drama) { d.ops[0].Generation = 2 }, "nothing had proved its death"},
		{"the operation failed", func(d *drama) { d.ops[0].Proven = false }, "nothing had proved its death"},
		{"freed by itself", func(d *drama) { d.ops = nil; d.all[len(d.all)-1].Host = "h1" }, ""},
		{"a person's word", func(d *drama) { d.ops = nil; d.event(20*sec, "host.confirmed", "h1") }, ""},
		{"a person's word about another", func(d *drama) { d.ops = nil; d.event(20*sec, "host.confirmed", "h3") }, "nothing had proved its death"},
		{"a person's word about an earlier life", func(d *drama) {
			d.event(20*sec, "host.confirmed", "h1")
			d.renewalsAs("h1", 1, 2, 30*sec, 40*sec)
			d.event(31*sec, "host.up", "h1")
			d.moment(41 * sec)
			d.put("h3", atIDs, sector(magicHost, 1, 2, 0, 0, 0, "h1"))
		}, "of h1, generation 2, was taken or freed by h3, and nothing had proved its death"},
		{"a proof of nothing, and a person's word long after", func(d *drama) {
			d.ops[0].Steps = d.ops[0].Steps[:2]
			d.event(40*sec, "host.confirmed", "h1")
		}, "none of its steps says of what"},
		{"a person's word instead of a step", func(d *drama) {
			d.ops[0].Steps = d.ops[0].Steps[:2]
			d.event(19900*time.Millisecond, "host.confirmed", "h1")
		}, ""},
		{"a proof of nothing", func(d *drama) { d.ops[0].Steps = d.ops[0].Steps[:2] }, "none of its steps says of what"},
		{"called down while it lived", func(d *drama) { d.event(16*sec, "host.down", "h1") }, "was called down"},
		{"called down after it came back", func(d *drama) {
			d.renewalsAs("h1", 1, 2, 30*sec, 50*sec)
			d.event(31*sec, "host.up", "h1")
			d.event(40*sec, "host.down", "h1")
		}, "was called down"},
		{"its lease was alive", func(d *drama) { d.ops[0] = proof("f1", "h1", rungLease, 18*sec, 20*sec) }, "its lease was neither dead nor free"},
		{"its lease was dead", func(d *drama) {
			*d = drama{power: d.power[:1], ops: []api.FenceOp{proof("f1", "h1", rungLease, 18*sec, 28*sec)}}
			d.renewals("h1", 1, sec, 17*sec)
			d.frees("h3", "h1", 1, 28500*time.Millisecond)
			d.event(29*sec, "host.down", "h1")
		}, ""},
		{"a lease of one who lives", func(d *drama) { d.leasePasses(16*sec, nil) }, "was taken by h3"},
		{"a lease that was given up", func(d *drama) { d.leasePasses(16*sec, block(1, 1)) }, ""},
		{"a lease of one who is in a ballot", func(d *drama) { d.leasePasses(16*sec, block(1, 0)) }, "was taken by h3"},
		{"a lease of which an earlier version was given up", func(d *drama) { d.leasePasses(16*sec, block(0, 1)) }, "was taken by h3"},
		{"a lease that was given up before another one's ballot found it won", func(d *drama) {
			d.moment(1500 * time.Millisecond)
			d.put("h1", atSDM+2*sectorSize, block(1, 1))
			d.leasePasses(16*sec, nil)
		}, ""},
		{"a lease of one who is dead", func(d *drama) { d.leasePasses(22*sec, nil) }, ""},
		{"no events", func(d *drama) { d.events = nil }, "nothing was followed"},
		{"no host", func(d *drama) { d.all = nil }, "no host's record"},
		{"a switch that goes off twice", func(d *drama) { d.power[3].Kind = history.PowerIsOff }, "went off twice"},
	})
}

// renewalsAs keeps the record of a later life alive.
func (d *drama) renewalsAs(host string, id, gen uint64, from, to time.Duration) {
	for t := from; t <= to; t += 2 * sec {
		d.moment(t)
		d.renew(host, id, gen)
	}
}

// block is a host's block of a ballot for a version of a lease.
func block(version uint64, flags uint32) []byte {
	b := make([]byte, sectorSize)
	binary.LittleEndian.PutUint64(b[40:], version)
	binary.LittleEndian.PutUint32(b[52:], flags)
	return b
}

// leasePasses lets h1 have the SPM lease from 2 s on, then write its block if there is one, and h3, host id 3, take it.
func (d *drama) leasePasses(at time.Duration, own []byte) {
	d.renewals("h3", 3, sec, 15*sec)
	d.moment(2 * sec)
	d.put("h1", atSDM, sector(magicLease, 1, 1, 1, 5, 1, "SDM"))
	if own != nil {
		d.put("h1", atSDM+2*sectorSize, own)
	}
	d.moment(at)
	d.put("h3", atSDM, sector(magicLease, 3, 1, 2, 9, 3, "SDM"))
}

func TestDuels(t *testing.T) {
	t.Parallel()
	// counter is an order of h1 against h2, who had it ordered off.
	counter := func(at time.Duration) history.Power {
		return history.Power{Host: "h2", Kind: history.PowerOrderOff, At: at, Told: at + sec, Said: "done",
			Intents: []history.Intent{{By: "h1", Op: "f2", Order: history.PowerOrderOff, Term: 8, Leader: "h1", Through: "h3"}}}
	}
	act(t, Duels, []plot{
		{"as it must be", func(*drama) {}, ""},
		{"no intent", func(d *drama) { d.power[1].Intents = nil }, "no host had its intent committed"},
		{"the intent of another order", func(d *drama) { d.power[1].Intents[0].Order = history.PowerOrderOn }, "no host had its intent committed"},
		{"somebody who knows is silent", func(d *drama) { d.power[1].Intents, d.power[1].Silent = nil, []string{"h3"} }, ""},
		{"by itself", func(d *drama) { d.power[1].Intents[0].Through = "h1" }, "stands on an intent of leader"},
		{"by nobody", func(d *drama) { d.power[1].Intents[0].Leader = "" }, "stands on an intent of leader"},
		{"of a term that is long over", func(d *drama) { d.terms = []history.Sample{{At: sec, Host: "h2", Answered: true, Term: 8}} }, "knew of term 8"},
		{"of a term that was over to others", func(d *drama) { d.terms = []history.Sample{{At: sec, Host: "h3", Answered: true, Term: 8}} }, ""},
		{"of a term that is just over", func(d *drama) { d.terms = []history.Sample{{At: 18 * sec, Host: "h2", Answered: true, Term: 8}} }, ""},
		{"a duel", func(d *drama) { d.power = append(d.power, counter(19200*time.Millisecond)) }, "ordered each other off"},
		{"a duel, and a switch that does nothing", func(d *drama) {
			d.power = append(d.power[:2], counter(19200*time.Millisecond))
			d.ops[0].Ended, d.ops[0].Outcome, d.ops[0].Proven = time.Time{}, "", false
		}, "ordered each other off"},
		{"one after the other", func(d *drama) { d.power = append(d.power, counter(40*sec)) }, ""},
		{"after an operation that failed", func(d *drama) { d.power = append(d.power[:2], counter(40*sec)) }, ""},
		{"an operator's order that no switch got", func(d *drama) {
			d.power, d.faults = d.power[:1], []history.Fault{{Kind: "power.off", Targets: []string{"h1"}}}
		}, "no order came"},
		{"no host was hit", func(d *drama) { d.power, d.faults = d.power[:1], []history.Fault{{Kind: "net.one"}} }, ""},
	})
}
