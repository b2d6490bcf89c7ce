package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
)

// scenarioPool is the simulated pool as a scenario's script changes it, with everything that is committed and done written down.
type scenarioPool struct {
	*sim
	t    *testing.T
	zero time.Time

	applying sync.Mutex // held while a command is applied, so that the lines of a lane are in the log's order

	mu       sync.Mutex                   // guards what follows
	codes    map[string]map[string]string // host, domain: what a look finds; missing: ok
	stays    map[string]bool              // hosts that do not let go of a domain
	dead     map[string]bool              // hosts whose power device does not answer
	watchdog map[string]bool
	noPower  map[string]bool
	clocks   map[string]time.Duration
	quiet    bool // the first election is not part of the log
	log      []logLine
	softs    string // what the soft restart comes to: "" none, fails, heals
	dump     time.Duration
	leaders  []leading       // only the script uses it
	config   []func(*Config) // of every term
	people   sync.WaitGroup
}

// leading is one term that goes on.
type leading struct {
	host string
	m    *Manager
	stop func()
}

// domainNames are the simulated domains by the names that scripts use.
var domainNames = map[string]string{"san1": simMaster, "san2": simOther}

func nameOfDomain(id string) string {
	for name, d := range domainNames {
		if d == id {
			return name
		}
	}
	return id
}

// say writes a line down.
func (p *scenarioPool) say(lane, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.quiet {
		p.log = append(p.log, logLine{time.Since(p.zero), lane, fmt.Sprintf(format, args...)})
	}
}

// sayOnce writes a line down that may come again and again.
func (p *scenarioPool) sayOnce(lane, text string) {
	p.mu.Lock()
	again := slices.ContainsFunc(p.log, func(l logLine) bool { return l.lane == lane && l.text == text })
	p.mu.Unlock()
	if !again {
		p.say(lane, "%s", text)
	}
}

func (p *scenarioPool) code(host, domain string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.codes[host][domain]
}

func (p *scenarioPool) masterID() string { pool, _ := p.View().Pool(); return pool.Master }

// Apply writes down what a command changed.
func (p *scenarioPool) Apply(ctx context.Context, cmd fsm.Command) (fsm.Outcome, error) {
	p.applying.Lock()
	defer p.applying.Unlock()
	before := p.View()
	out, err := p.sim.Apply(ctx, cmd)
	p.tellChanges(before, p.View())
	return out, err
}

func (p *scenarioPool) tellChanges(before, after *fsm.State) {
	for _, h := range after.Hosts.All() {
		if old, ok := before.Hosts.Get(h.Name); ok && old.State != h.State {
			p.say("host "+h.Name, "%s -> %s", old.State, h.State)
		}
	}
	for id, d := range after.Domains.All() {
		old, _ := before.Domains.Get(id)
		if lane := "domain " + d.Name; old.CurrentStatus() != d.CurrentStatus() {
			p.say(lane, "%s -> %s", old.CurrentStatus(), d.CurrentStatus())
		}
	}
	for id, op := range after.Fences.All() {
		old, known := before.Fences.Get(id)
		if !known {
			p.say("fence "+op.Host, "begins (%s)", op.Action)
		}
		for _, st := range op.Steps[min(len(old.Steps), len(op.Steps)):] {
			p.say("fence "+op.Host, "%s %s", st.Rung, st.Result)
		}
		if old.Outcome != op.Outcome {
			p.say("fence "+op.Host, "ends: %s", op.Outcome)
		}
	}
	for key, proof := range after.Proofs.All() {
		if !before.Proofs.Has(key) {
			p.say("proof "+proof.Host, "%s", proof.Kind)
		}
	}
	if was, is := masterOf(before), masterOf(after); was != is {
		p.say("pool", "master %s -> %s", nameOfDomain(was), nameOfDomain(is))
		p.alter(func() { p.holder = 0 }) // the lease is one per master
	}
	p.tellEvents(before, after)
}

func masterOf(v *fsm.State) string { pool, _ := v.Pool(); return pool.Master }

// toldEvents are the kinds whose events are in the log: what no lane says otherwise.
var toldEvents = []string{kindMoved, kindFreed, kindVoid, "proof.late", "host.confirmed", "host.kdump", "fencing.disarmed", "fencing.armed", "spm.conflict", "domain.slow", "domain.not_slow", "domain.space_enough",
	"domain.space_low", "domain.space_critical"}

func (p *scenarioPool) tellEvents(before, after *fsm.State) {
	for _, e := range after.Events() {
		if e.Index > before.Index && slices.Contains(toldEvents, e.Kind) {
			p.say(strings.TrimSpace("event "+e.Host), "%s", strings.TrimSpace(e.Kind+" "+reasonOf(e)))
		}
	}
}

// reasonOf is the reason of a move; other reasons are people's words and times.
func reasonOf(e fsm.Event) string {
	if e.Kind == kindMoved {
		return e.Reason
	}
	return ""
}

// Call answers as the host's storage and power devices do.
func (p *scenarioPool) Call(ctx context.Context, host, method string, in, out any) error {
	switch method {
	case MethodReopen:
		return p.sim.Call(ctx, host, MethodPing, struct{}{}, &PingReply{})
	case spm.MethodRetire:
		return p.retire(ctx, host)
	case MethodPower, MethodPowerHealth:
		return p.proxy(ctx, host, method, in, out)
	case MethodInspect:
		if err := p.readMaster(ctx, host); err != nil {
			return err
		}
	}
	err := p.sim.Call(ctx, host, method, in, out)
	p.tellCall(host, method, out, err)
	if err != nil {
		return err
	}
	switch rep := out.(type) {
	case *PingReply:
		p.answer(host, rep)
	case *SightReply:
		rep.Seen = slices.DeleteFunc(rep.Seen, func(s SpaceSight) bool { return p.code(host, s.Lockspace) != "" })
	}
	return nil
}

// tellCall writes down what orders about the role came to.
func (p *scenarioPool) tellCall(host, method string, out any, err error) {
	switch method {
	case spm.MethodStart:
		if errors.Is(err, spm.ErrChanged) {
			return // compare and set did its work; it is tried again with a newer look
		}
		if err != nil {
			p.sayOnce("spm", host+" cannot take the role: "+err.Error())
			return
		}
		p.say("spm", "%s takes the role", host)
	case spm.MethodStop:
		if rep, ok := out.(*spm.StopReply); ok && err == nil && rep.WasServing {
			p.say("spm", "%s gives the role back", host)
		}
	case MethodYield:
		if rep, ok := out.(*YieldReply); ok && err == nil && rep.Released {
			p.say("spm", "the holder gives the lease back, asked through the storage")
		} else if err != nil && ctxOver(err) == nil {
			p.say("spm", "the holder does not heed the request through the storage")
		}
	}
}

func ctxOver(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// readMaster is a look at the master's LUN: it fails, or hangs until nobody waits any more.
func (p *scenarioPool) readMaster(ctx context.Context, host string) error {
	switch code := p.code(host, p.masterID()); code {
	case "":
		return nil
	case DomainHung:
		<-ctx.Done()
		return ctx.Err()
	default:
		return fmt.Errorf("the master: %s: input/output error", code)
	}
}

// retire is a host's word that it does not take the role under the old master.
func (p *scenarioPool) retire(ctx context.Context, host string) error {
	var rep PingReply
	if err := p.sim.Call(ctx, host, MethodPing, struct{}{}, &rep); err != nil {
		return err
	}
	if rep.Role.State != RoleNone {
		return spm.ErrBusy
	}
	return nil
}

// proxy lets a real PowerProxy answer, over the simulated power devices.
func (p *scenarioPool) proxy(ctx context.Context, host, method string, in, out any) error {
	if err := p.sim.Call(ctx, host, MethodPing, struct{}{}, &PingReply{}); err != nil {
		return err
	}
	x := &PowerProxy{Host: host, View: p.View, Switches: AgentSwitches(scenarioPower{p}, p.fenceable)}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	rep, err := x.Handlers()[method](ctx, "", body)
	if err != nil {
		return err
	}
	b, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

func (p *scenarioPool) fenceable(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.noPower[host]
}

// answer changes a host's answer to a ping to what its storage is like. A look ends each second.
func (p *scenarioPool) answer(host string, rep *PingReply) {
	passed := time.Since(p.zero) + time.Hour
	looks := uint64(passed / time.Second)
	rep.DomainsSeq = looks
	rep.MasterValid = rep.MasterValid && p.code(host, p.masterID()) == ""
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchdog[host] {
		rep.Watchdog, rep.WatchdogTime = "wdmd", 10
	}
	for i := range rep.Domains {
		r := &rep.Domains[i]
		d, _ := p.View().Domains.Get(r.Domain)
		r.Looks, r.Age, r.Status, r.MetadataSize, r.MetadataUsed = looks, passed%time.Second, d.CurrentStatus(), 100, 10
		leaves := r.Status == fsm.DomainPreparing || r.Status == fsm.DomainMaintenance
		r.Open = !leaves || p.stays[host]
		r.Acquired = r.Open
		if code := p.codes[host][r.Domain]; code != "" {
			r.Code, r.Detail = code, "simulated"
		}
	}
}

// scenarioPower are the power devices.
type scenarioPower struct{ p *scenarioPool }

var errDeviceDead = errors.New("the power device does not answer")

func (x scenarioPower) broken(host string) bool {
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	return x.p.dead[host]
}

func (x scenarioPower) Status(ctx context.Context, host string) (fencing.State, error) {
	if x.broken(host) {
		return fencing.Unknown, errDeviceDead
	}
	return x.p.sim.Status(ctx, host)
}

func (x scenarioPower) Off(ctx context.Context, host string) (fencing.Evidence, error) {
	if x.broken(host) {
		return fencing.Evidence{}, errDeviceDead
	}
	ev, err := x.p.sim.Off(ctx, host)
	if err == nil {
		x.p.say("power "+host, "off")
	}
	return ev, err
}

func (x scenarioPower) On(ctx context.Context, host string) error {
	if x.broken(host) {
		return errDeviceDead
	}
	err := x.p.sim.On(ctx, host)
	if err == nil {
		x.p.say("power "+host, "on")
	}
	return err
}

// spans are times in people's words: they differ by a tick from run to run; so does which of several hosts or lockspaces is named.
var (
	spans = regexp.MustCompile(`\d+(\.\d+)?(ns|µs|ms|s|m\d+(\.\d+)?s|m)\b|\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	named = regexp.MustCompile(`(host) [a-z]\w* (reads)|(lockspace) dom-\d`)
)

func withoutTimes(s string) string {
	return named.ReplaceAllString(spans.ReplaceAllString(s, "<time>"), "$1$3 <name> $2")
}
