package manager

import (
	"bufio"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// scenario is one file of testdata/scenarios: a pool, what happens to it, and what the manager makes of it. The README there is the
// language's manual.
type scenario struct {
	comment  []string
	hosts    []string
	leader   string
	spm      string
	noPower  []string
	watchdog []string
	policy   []string // words: see policies
	allow    []string // what the judges say of hosts that are asked by two leaders, and that is harmless
	ignore   []string // lanes whose order the scheduler decides; the comment says what counts
	every    bool     // no state is left out of the log, however short
	within   time.Duration
	steps    []scenarioStep
	end      time.Duration
	log      []logLine
}

// scenarioStep is one line that begins with "at".
type scenarioStep struct {
	at    time.Duration
	words []string
	line  int
}

// logLine is one line of what happened. Lines of one lane have an order; those of different lanes have none.
type logLine struct {
	at   time.Duration
	lane string
	text string
}

func (l logLine) String() string {
	return fmt.Sprintf("%6.1fs  %s: %s", l.at.Seconds(), l.lane, l.text)
}

// logMark ends the script and begins the log.
const logMark = "--- log"

// defaultWithin is how far a line may be from its time. The scheduler's order moves things by a tick or by one look at the disk.
const defaultWithin = 1200 * time.Millisecond

var hostName = regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`)

// parseScenario reads one file. An error names the line.
func parseScenario(text string) (*scenario, error) {
	sc := &scenario{within: defaultWithin}
	in, inLog := bufio.NewScanner(strings.NewReader(text)), false
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		var err error
		switch {
		case line == logMark:
			inLog = true
		case inLog && line != "":
			err = sc.parseLog(line)
		case strings.HasPrefix(line, "#"):
			sc.comment = append(sc.comment, strings.TrimSpace(line[1:]))
		case line != "":
			err = sc.parseLine(strings.Fields(line), n)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return sc, errors.Join(in.Err(), sc.check())
}

// parseLine reads a line of the script.
func (sc *scenario) parseLine(words []string, n int) (err error) {
	args := words[1:]
	switch words[0] {
	case "hosts":
		sc.hosts = args
	case "no-power":
		sc.noPower = args
	case "watchdog":
		sc.watchdog = args
	case "policy":
		sc.policy = append(sc.policy, strings.Join(args, " "))
	case "every":
		sc.every = true
	case "ignore":
		sc.ignore = append(sc.ignore, strings.Join(args, " "))
	case "allow":
		sc.allow = append(sc.allow, strings.Join(args, " "))
	case "leader", "spm", "within", "end":
		if len(args) != 1 {
			return fmt.Errorf("%q takes one word", words[0])
		}
		switch words[0] {
		case "leader":
			sc.leader = args[0]
		case "spm":
			sc.spm = args[0]
		case "within":
			sc.within, err = span0(args[0])
		case "end":
			sc.end, err = span0(args[0])
		}
	case "at":
		if len(args) < 2 {
			return errors.New("\"at\" takes a time and what happens then")
		}
		s := scenarioStep{words: args[1:], line: n}
		s.at, err = span0(args[0])
		sc.steps = append(sc.steps, s)
	default:
		return fmt.Errorf("unknown word %q", words[0])
	}
	return err
}

// span0 reads a time that is not negative and not absurd.
func span0(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil && (d < 0 || d > time.Hour) {
		err = fmt.Errorf("%s is not within 0s and 1h", s)
	}
	return d, err
}

func (sc *scenario) parseLog(line string) error {
	at, rest, ok := strings.Cut(line, " ")
	lane, text, ok2 := strings.Cut(strings.TrimSpace(rest), ": ")
	if !ok || !ok2 {
		return fmt.Errorf("%q: a line of the log is TIME LANE: TEXT", line)
	}
	d, err := span0(at)
	sc.log = append(sc.log, logLine{d, lane, text})
	return err
}

// check refuses what cannot be run, and scenarios that would show nothing.
func (sc *scenario) check() error {
	if len(sc.hosts) < 2 || sc.end == 0 || len(sc.comment) == 0 {
		return errors.New("a scenario has a comment, at least two hosts, and an end")
	}
	for i, h := range sc.hosts {
		if !hostName.MatchString(h) || slices.Contains(sc.hosts[:i], h) {
			return fmt.Errorf("host %q: names are different words of small letters and digits", h)
		}
	}
	for _, h := range slices.Concat([]string{sc.leader, sc.spm}, sc.noPower, sc.watchdog) {
		if !slices.Contains(sc.hosts, h) {
			return fmt.Errorf("%q is none of the hosts", h)
		}
	}
	for _, p := range sc.policy {
		if policies[p] == nil {
			return fmt.Errorf("unknown policy %q", p)
		}
	}
	expects, last := 0, time.Duration(0)
	for _, s := range sc.steps {
		if s.at < last || s.at > sc.end {
			return fmt.Errorf("line %d: the steps are in order and not after the end", s.line)
		}
		last = s.at
		if _, err := sc.wordOf(s); err != nil {
			return fmt.Errorf("line %d: %w", s.line, err)
		}
		if s.words[0] == "expect" {
			expects++
		}
	}
	if expects == 0 {
		return errors.New("a scenario expects something besides its log, which -update rewrites")
	}
	return nil
}

// wordOf finds the meaning of a step and checks how many arguments it has.
func (sc *scenario) wordOf(s scenarioStep) (scenarioWord, error) {
	w, ok := scenarioWords[s.words[0]]
	switch n := len(s.words) - 1; {
	case !ok:
		return w, fmt.Errorf("unknown word %q", s.words[0])
	case n < w.least || n > w.most:
		return w, fmt.Errorf("%q takes %d to %d words, not %d", s.words[0], w.least, w.most, n)
	}
	if w.hosts {
		for _, h := range s.words[1:] {
			if h != "all" && !slices.Contains(sc.hosts, h) {
				return w, fmt.Errorf("%q is none of the hosts", h)
			}
		}
	}
	return w, nil
}

func TestScenarios_parse(t *testing.T) {
	t.Parallel()
	good := "# why\nhosts a b\nleader b\nspm a\nat 1s kill a\nat 2s expect serving b\nend 3s\n" + logMark + "\n 1.5s  host a: up -> down\n"
	sc, err := parseScenario(good)
	if err != nil || len(sc.steps) != 2 || sc.end != 3*time.Second || len(sc.log) != 1 || sc.log[0] != (logLine{1500 * time.Millisecond, "host a", "up -> down"}) {
		t.Fatalf("%+v, %v", sc, err)
	}
	for _, tc := range []struct{ old, new, want string }{
		{"hosts a b", "hosts a", "at least two hosts"},
		{"hosts a b", "hosts a b b", "different words"},
		{"hosts a b", "hosts a B", "different words"},
		{"leader b", "leader z", "none of the hosts"},
		{"leader b", "leader", "takes one word"},
		{"leader b", "leader b\npolicy nonsense", "unknown policy"},
		{"spm a", "prime a", "unknown word"},
		{"at 1s kill a", "at 1s kill z", "none of the hosts"},
		{"at 1s kill a", "at 1s kill", "takes 1 to"},
		{"at 1s kill a", "at 1s explode a", "unknown word"},
		{"at 1s kill a", "at soon kill a", "invalid duration"},
		{"at 1s kill a", "at 5s kill a", "in order"},
		{"at 1s", "at -1s", "not within"},
		{"at 2s expect serving b", "at 2s kill b", "expects something"},
		{"# why", "", "a comment"},
		{"host a: up", "host a up", "a line of the log"},
	} {
		if _, err := parseScenario(strings.Replace(good, tc.old, tc.new, 1)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.new, err, tc.want)
		}
	}
}

func FuzzScenarioParse(f *testing.F) {
	f.Add("# why\nhosts a b\nleader b\nspm a\nat 1s kill a\nat 2s expect serving b\nend 3s\n" + logMark + "\n1.5s host a: up -> down\n")
	f.Fuzz(func(t *testing.T, text string) {
		if sc, err := parseScenario(text); err == nil && (len(sc.hosts) < 2 || sc.end == 0) {
			t.Errorf("%+v", sc)
		}
	})
}
