package check

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Logs judges the agents' and keepers' logs, HOST.log: no panic, no race, and no line at error level but those of the list in
// logs_allow.go, each only where a fault of its kind had been injected; and that no process ended that nobody ended.
func Logs(r Record) history.Verdict {
	const name = "logs"
	var f findings
	c := logCheck{run: r.Run, faults: r.Faults, wallClock: true, times: map[string]int{}, found: &f}
	for _, x := range r.Faults {
		c.wallClock = c.wallClock && !strings.HasPrefix(x.Kind, "clock.")
	}
	lines := 0
	for _, host := range r.Run.Hosts {
		n, err := c.file(r.Folder, host)
		if err != nil {
			f.add("%v", err)
		} else if n == 0 {
			f.add("%s has logged nothing", host)
		}
		lines += n
	}
	if len(r.Run.Hosts) == 0 {
		f.add("the run names no host")
	}
	for _, line := range sortedKeys(c.times) {
		f.add("%d times: %s", c.times[line], line)
	}
	ends := c.exits(r)
	return f.verdict(name, "%d lines of %d hosts, %d of them errors that the faults explain; %d ends of agents", lines, len(r.Run.Hosts), c.excused, ends)
}

// logCheck reads logs line by line.
type logCheck struct {
	run       history.Run
	faults    []history.Fault
	wallClock bool           // the times of lines mean something
	times     map[string]int // lines that must not be, without what changes from one to the next
	excused   int
	found     *findings
}

func (c *logCheck) file(folder, host string) (lines int, err error) {
	file, err := os.Open(filepath.Join(folder, host+".log"))
	if err != nil {
		return 0, fmt.Errorf("reading a log: %w", err)
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	s.Buffer(nil, 4<<20)
	for s.Scan() {
		lines++
		c.line(host, lines, s.Text())
	}
	if err := s.Err(); err != nil {
		return lines, fmt.Errorf("reading the log of %s after line %d: %w", host, lines, err)
	}
	return lines, nil
}

// crashes are the first lines of what Go prints when a program is at its end.
var crashes = []string{"panic: ", "fatal error: ", "WARNING: DATA RACE", "runtime: ", "SIGSEGV", "unexpected fault address"}

func (c *logCheck) line(host string, n int, text string) {
	if slices.ContainsFunc(crashes, func(p string) bool { return strings.HasPrefix(text, p) }) {
		c.found.add("%s.log:%d: %s", host, n, text)
		return
	}
	if !strings.Contains(text, "level=ERROR") && !strings.Contains(text, `"level":"ERROR"`) {
		return
	}
	if c.allowed(text) {
		c.excused++
		return
	}
	key := host + ": " + changing.ReplaceAllString(text, "")
	c.times[key]++
}

// changing is what differs between two lines that say the same.
var changing = regexp.MustCompile(`^time=\S+ |"time":"[^"]*",?| request_id=\S+| took=\S+`)

var lineTime = regexp.MustCompile(`^time=(\S+)|"time":"([^"]+)"`)

// allowed looks a line up in the list.
func (c *logCheck) allowed(text string) bool {
	for _, a := range allow {
		if a.line.MatchString(text) && c.explained(a, text) {
			return true
		}
	}
	return false
}

// explained says whether a fault that a line of the list needs had begun when the line was written.
func (c *logCheck) explained(a allowance, text string) bool {
	if len(a.faults) == 0 {
		return true
	}
	for _, f := range c.faults {
		if !slices.ContainsFunc(a.faults, func(p string) bool { return strings.HasPrefix(f.Kind, p) }) {
			continue
		}
		at, ok := c.when(text)
		if !ok || !c.wallClock || at >= f.Begin-time.Second {
			return true
		}
	}
	return false
}

// when is the time of a line since the run began.
func (c *logCheck) when(text string) (time.Duration, bool) {
	m := lineTime.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	at, err := time.Parse(time.RFC3339Nano, m[1]+m[2])
	return at.Sub(c.run.Began), err == nil
}

// ExitsFile has the ends of agents, one line each, as the pool saw them.
const ExitsFile = "exits.jsonl"

// exit is the end of one agent.
type exit struct {
	Host   string    `json:"host"`
	PID    int       `json:"pid"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Told   bool      `json:"told"` // somebody had it ended
	Panic  string    `json:"panic"`

	when time.Duration // since the run began
}

func loadExits(r Record) ([]exit, error) {
	all, err := history.Load[exit](r.Folder, ExitsFile)
	for i := range all {
		all[i].when = all[i].At.Sub(r.Run.Began)
	}
	return all, err
}

// exits judges the ends of agents. It returns how many there were.
func (c *logCheck) exits(r Record) int {
	all, err := loadExits(r)
	if err != nil {
		c.found.add("%v; without it nobody knows who died", err)
	}
	for _, x := range all {
		switch {
		case x.Panic != "":
			c.found.add("%s (pid %d) panicked at %.3fs: %s", x.Host, x.PID, x.when.Seconds(), x.Panic)
		case !x.Told && !c.ownKeeper(x) && !c.refused(x):
			c.found.add("%s (pid %d) ended at %.3fs although nobody had told it to: %s", x.Host, x.PID, x.when.Seconds(), x.Reason)
		}
	}
	return len(all)
}

// losesLease are the kinds of faults after which a keeper that cannot renew kills its agent, as it must: that is no accident.
var losesLease = []string{"path.", "lun.", "stop.", "kill.keeper", "clock.", "power."}

// ownKeeper says whether an agent was killed for the loss of its lease.
func (c *logCheck) ownKeeper(x exit) bool {
	return strings.Contains(x.Reason, "killed") && slices.ContainsFunc(c.faults, func(f history.Fault) bool {
		end := max(f.Begin, f.End)
		return slices.ContainsFunc(losesLease, func(p string) bool { return strings.HasPrefix(f.Kind, p) }) &&
			(len(f.Targets) == 0 || slices.Contains(f.Targets, x.Host)) &&
			x.when >= f.Begin && x.when <= end+hostDead(c.run.Bounds)+Slack
	})
}

// refused says whether an agent ended because its files were damaged: whoever does not believe them must not run with them.
func (c *logCheck) refused(x exit) bool {
	return x.Reason == "exit status 1" && slices.ContainsFunc(c.faults, func(f history.Fault) bool {
		return strings.HasPrefix(f.Kind, "data.") && slices.Contains(f.Targets, x.Host) && x.when >= f.Begin && x.when <= max(f.Begin, f.End)+Slack
	})
}

// GoroutinesFile has how many goroutines each agent had when the pool was formed and at the end, by host.
const GoroutinesFile = "goroutines.json"

// GoroutineCount is what an agent's metrics said.
type GoroutineCount struct {
	Before int `json:"before"` // 0: not known
	After  int `json:"after"`
}

// leakMargin is how many more goroutines a host may have at the end, and shareMargin how many more all may have, for each host: connections
// to others and to the LUN come and go, and leader and SPM need not be one host at the end. What leaks with a fault leaks more in a run.
const (
	leakMargin  = 30
	shareMargin = 20
)

// Goroutines judges that no agent has more goroutines after healing than one had when the pool was new, within a margin, nor all
// together. The leader and the SPM have more than the others, and the roles have moved.
func Goroutines(r Record) history.Verdict {
	const name = "goroutines"
	counts := map[string]GoroutineCount{}
	err := readJSON(r.Folder, GoroutinesFile, &counts)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failed(name, fmt.Errorf("nobody counted them; the run has to read go_goroutines of /metrics and write %s", GoroutinesFile))
	case err != nil:
		return failed(name, err)
	}
	var f findings
	most, before, after := 0, 0, 0
	for _, n := range counts {
		most = max(most, n.Before)
	}
	for _, h := range r.Run.Hosts {
		n := counts[h]
		if n.Before <= 0 || n.After <= 0 {
			f.add("%s: %d goroutines before and %d after are no counts", h, n.Before, n.After)
		}
		if n.After > most+leakMargin {
			f.add("%s has %d goroutines at the end and had %d; no host had more than %d", h, n.After, n.Before, most)
		}
		before, after = before+n.Before, after+n.After
	}
	margin := shareMargin * len(r.Run.Hosts)
	if after > before+margin {
		f.add("all hosts together have %d goroutines at the end and had %d", after, before)
	}
	return f.verdict(name, "%d goroutines on %d hosts, %d at the end; %d more are allowed", before, len(r.Run.Hosts), after, margin)
}
