package manager

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

var updateScenarios = flag.Bool("update", false, "rewrite the logs of testdata/scenarios that differ")

// settleTime is the pool's life before a scenario begins: the first SPM is elected, and everybody has looked at every domain.
const settleTime = 8 * time.Second

// Every scenario goes as its file says, and the judges of the simulation have nothing to say.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sc, err := parseScenario(string(text))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			got, err := runScenario(t, sc)
			if err != nil {
				t.Errorf("%v\n%s", err, writeLog(got))
			}
			got = sc.steady(got)
			err = sameLog(sc.log, got, sc.within)
			if err != nil && *updateScenarios {
				script, _, _ := strings.Cut(string(text), logMark)
				err = os.WriteFile(file, []byte(strings.TrimRight(script, "\n")+"\n\n"+logMark+"\n"+writeLog(got)), 0o644)
			}
			if err != nil {
				t.Errorf("%v; the log was\n%s", err, writeLog(got))
			}
		})
	}
}

// The README names every scenario in the row of each pain that its comment names, and nothing else.
func TestScenarios_readme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/scenarios/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string][]string{}
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, pains, ok := strings.Cut(string(script), "# Pain ")
		pains, _, _ = strings.Cut(pains, ".")
		if !ok {
			t.Errorf("%s names no pain", file)
		}
		for _, p := range strings.Split(pains, ", ") {
			shown[p] = append(shown[p], strings.TrimSuffix(filepath.Base(file), ".txt"))
		}
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		number, ok := strings.CutPrefix(cells[0], "| ")
		if n, err := strconv.Atoi(number); !ok || err != nil || n < 1 || n > 15 || len(cells) != 4 {
			continue
		}
		rows++
		want := strings.Join(shown[number], ", ")
		if want == "" && len(strings.TrimSuffix(strings.TrimSpace(cells[3]), "|")) > 0 {
			want = "-" // shown elsewhere
		}
		if cells[2] != want {
			t.Errorf("pain %s: the README names %q, the scenarios %q", number, cells[2], want)
		}
	}
	if rows != 15 {
		t.Errorf("%d rows for fifteen pains", rows)
	}
}

// runScenario plays the script in a bubble of its own and returns what happened. An error is an expectation that was not met, or
// a breach of safety.
func runScenario(t *testing.T, sc *scenario, change ...func(*Config)) (log []logLine, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newScenarioPool(t, sc, change)
		log, err = p.play(sc)
	})
	return log, err
}

// newScenarioPool makes the pool of a script, without a leader.
func newScenarioPool(t *testing.T, sc *scenario, change []func(*Config)) *scenarioPool {
	p := &scenarioPool{sim: newSim(t, sc.hosts...), t: t, zero: time.Now().Add(settleTime), quiet: true, codes: map[string]map[string]string{},
		stays: map[string]bool{}, dead: map[string]bool{}, watchdog: map[string]bool{}, noPower: map[string]bool{}, clocks: map[string]time.Duration{}}
	for _, h := range sc.noPower {
		p.noPower[h] = true
	}
	for _, h := range sc.watchdog {
		p.watchdog[h] = true
	}
	for name, id := range domainNames {
		p.must(t, &fsm.DomainPut{Domain: fsm.Domain{ID: id, Name: name, Status: fsm.DomainActive, Size: 1000, Free: 900, Epoch: 1, Seq: 1}})
	}
	best := 10
	p.must(t, &fsm.HostUpdate{Name: sc.spm, Priority: &best})
	p.config = append(p.config, func(c *Config) {
		c.Cluster, c.Agent, c.Fenceable = p, scenarioPower{p}, p.fenceable
		c.Limits = func(*fsm.State, fsm.Domain) SpaceLimits { return SpaceLimits{Warn: 200, Critical: 100} }
	})
	for _, word := range sc.policy {
		p.config = append(p.config, policies[word])
		switch word {
		case "soft restart":
			p.config = append(p.config, func(c *Config) { c.Soft = p.softRestart })
		case "kdump":
			p.config = append(p.config, func(c *Config) { c.Kdump = p })
		}
	}
	p.config = append(p.config, change...)
	return p
}

// lead begins a term on a host.
func (p *scenarioPool) lead(host string) {
	off := p.clocks[host]
	config := append(slices.Clone(p.config), func(c *Config) { c.Now = func() time.Time { return time.Now().Add(off) } })
	m, stop := p.sim.lead(p.t, host, config...)
	p.leaders = append(p.leaders, leading{host, m, stop})
}

// play runs the script.
func (p *scenarioPool) play(sc *scenario) ([]logLine, error) {
	ctx, cancel := context.WithCancel(p.t.Context())
	defer p.abdicate()
	defer p.people.Wait()
	defer cancel()
	p.lead(sc.leader)
	time.Sleep(time.Until(p.zero))
	if got := p.serving(); got != sc.spm {
		return nil, fmt.Errorf("%s is to be SPM at first, and it is %q", sc.spm, got)
	}
	p.with(func() { p.quiet = false })
	var errs []error
	for _, s := range sc.steps {
		time.Sleep(time.Until(p.zero.Add(s.at)))
		w, err := sc.wordOf(s)
		if s.words[0] == "operator" {
			err = p.operate(ctx, s.words[1:])
		} else if err == nil {
			err = w.do(p, s.words[1:])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", s.line, err))
		}
	}
	time.Sleep(time.Until(p.zero.Add(sc.end)))
	p.with(func() { p.quiet = true })
	for _, e := range unexplained(p.View().Events()) {
		errs = append(errs, errors.New(e))
	}
	return p.log, errors.Join(append(errs, p.judge(sc.allow))...)
}

// judge is what the judges of the simulation noted, but for what a scenario allows.
func (p *scenarioPool) judge(allow []string) error {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	for _, b := range p.breaches {
		if !slices.ContainsFunc(allow, func(a string) bool { return strings.HasPrefix(b, a) }) {
			return fmt.Errorf("safety: %q", p.breaches)
		}
	}
	return nil
}

// lanes sorts lines by lane; in a lane they stay in their order.
func lanes(log []logLine) (names []string, byName map[string][]logLine) {
	byName = map[string][]logLine{}
	for _, l := range log {
		if byName[l.lane] == nil {
			names = append(names, l.lane)
		}
		byName[l.lane] = append(byName[l.lane], l)
	}
	return names, byName
}

// sameLog compares lane by lane: the same lines in the same order, none further from its time than within.
func sameLog(want, got []logLine, within time.Duration) error {
	names, wanted := lanes(want)
	more, have := lanes(got)
	for _, lane := range slices.Concat(names, more) {
		w, g := wanted[lane], have[lane]
		for i := range max(len(w), len(g)) {
			switch {
			case i >= len(g):
				return fmt.Errorf("missing: %s", w[i])
			case i >= len(w):
				return fmt.Errorf("not expected: %s", g[i])
			case w[i].text != g[i].text:
				return fmt.Errorf("instead of %q there is %q", w[i], g[i])
			case (w[i].at - g[i].at).Abs() > within+max(w[i].at, g[i].at)/20:
				return fmt.Errorf("%q came at %.1fs", w[i], g[i].at.Seconds())
			}
		}
	}
	return nil
}

// passing is shorter than the least time that a state of a host lasts by rule (a quarter of the grace time), and longer than a tick and
// an answer.
const passing = 240 * time.Millisecond

// passed are the states that a host may go through within a moment, or not, as answers and commits happen to come.
var passed = []string{fsm.HostFencing, fsm.HostPreparing, fsm.HostRebooting, fsm.HostNonResponsive, fsm.HostIsolated}

// steady leaves out what differs from run to run: states that a host passes through in a moment, and lanes to be ignored.
func (sc *scenario) steady(log []logLine) []logLine {
	var out []logLine
	last := map[string]int{} // by lane: its last line in out
	for _, l := range log {
		if slices.Contains(sc.ignore, l.lane) {
			continue
		}
		if i, ok := last[l.lane]; ok && !sc.every && strings.HasPrefix(l.lane, "host ") && l.at-out[i].at < passing {
			from, mid, _ := strings.Cut(out[i].text, " -> ")
			if _, to, _ := strings.Cut(l.text, " -> "); slices.Contains(passed, mid) {
				out[i].text = from + " -> " + to
				continue
			}
		}
		last[l.lane] = len(out)
		out = append(out, l)
	}
	return slices.DeleteFunc(out, func(l logLine) bool {
		from, to, _ := strings.Cut(l.text, " -> ")
		return from == to && strings.HasPrefix(l.lane, "host ")
	})
}

func writeLog(log []logLine) string {
	log = slices.Clone(log)
	slices.SortStableFunc(log, func(a, b logLine) int {
		return int(a.at.Round(100*time.Millisecond) - b.at.Round(100*time.Millisecond))
	})
	var b strings.Builder
	for _, l := range log {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}
