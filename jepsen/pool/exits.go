package pool

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Exit is the end of one agent.
type Exit struct {
	Host   string    `json:"host"`
	PID    int       `json:"pid"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`          // exit status or signal
	Told   bool      `json:"told"`            // somebody had it ended
	Panic  string    `json:"panic,omitempty"` // what it said when it panicked, from its log; the keeper's words count too
}

// String is one line for people.
func (e Exit) String() string {
	s := fmt.Sprintf("%s (pid %d): %s", e.Host, e.PID, e.Reason)
	if line, _, _ := strings.Cut(e.Panic, "\n"); line != "" {
		s += ": " + line
	}
	return s
}

// panicLines bounds how much of a panic is kept.
const panicLines = 60

// record keeps an exit. Caller holds mu.
func (h *host) record(e Exit) { h.exits = append(h.exits, e) }

// died says that the last agent ended without being told, and none runs now. Caller holds mu.
func (h *host) died() bool {
	return h.pid == 0 && len(h.exits) > 0 && !h.exits[len(h.exits)-1].Told
}

// Exits are the ends of all agents so far, in the order of hosts and of time.
func (p *Pool) Exits() []Exit {
	var all []Exit
	for _, h := range p.hosts {
		h.mu.Lock()
		all = append(all, slices.Clone(h.exits)...)
		h.mu.Unlock()
	}
	return all
}

// Dead says whether a host has no agent because it died without being told, and of what. The supervisor starts it again after
// 2 s, see SetRestart; Exits keeps all of them.
func (p *Pool) Dead(name string) (reason string, dead bool) {
	h, err := p.host(name)
	if err != nil {
		return "", false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.want || !h.died() {
		return "", false
	}
	return h.exits[len(h.exits)-1].String(), true
}

// SetRestart says whether an agent that dies by itself is started again, as it is at first.
func (p *Pool) SetRestart(name string, on bool) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restart = on
	h.signal()
	return nil
}

// panicText finds the first words of a panic in a log, from an offset on.
func panicText(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return ""
	}
	var lines []string
	for r := bufio.NewReader(f); len(lines) < panicLines; {
		line, err := r.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); len(lines) > 0 || startsPanic(line) {
			lines = append(lines, line)
		}
		if err != nil {
			break
		}
	}
	return strings.Join(lines, "\n")
}

// startsPanic knows the runtime's ways to give up.
func startsPanic(line string) bool {
	return slices.ContainsFunc([]string{"panic: ", "fatal error: ", "runtime: ", "SIGSEGV", "SIGBUS", "SIGABRT", "unexpected fault address", "WARNING: DATA RACE"},
		func(p string) bool { return strings.HasPrefix(line, p) })
}
