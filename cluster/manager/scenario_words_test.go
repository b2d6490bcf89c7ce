package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// scenarioWord is what a word of the script does.
type scenarioWord struct {
	least, most int
	hosts       bool // all arguments are hosts, or "all"
	do          func(p *scenarioPool, args []string) error
}

// onHosts makes a word that changes hosts.
func onHosts(change func(h *simHost)) scenarioWord {
	return scenarioWord{1, 16, true, func(p *scenarioPool, args []string) error {
		for _, name := range p.named(args) {
			p.sim.set(name, change)
		}
		return nil
	}}
}

// named are the hosts that arguments name.
func (p *scenarioPool) named(args []string) []string {
	if slices.Contains(args, "all") {
		args = nil
		for name := range p.sim.hosts {
			args = append(args, name)
		}
		slices.Sort(args)
	}
	return args
}

// policies are the words after "policy".
var policies = map[string]func(c *Config){
	"unprotected wait":    func(c *Config) { c.Policy.UnprotectedTakeover = false },
	"no restart":          func(c *Config) { c.Policy.RestartAfterOff = false },
	"fence live":          func(c *Config) { c.Policy.SkipIfLive = false },
	"fence half":          func(c *Config) { c.Policy.SkipIfHalfDead = false },
	"never fence live":    func(c *Config) { c.Policy.FenceLiveAfter = 0 },
	"soft restart":        func(*Config) {}, // the pool's own
	"kdump":               func(*Config) {},
	"fence the SPM alone": func(c *Config) { c.Policy.FenceOthers = false },
}

// scenarioWords is the language. Filled by init, for the parser and the words know each other.
var scenarioWords map[string]scenarioWord

func init() {
	scenarioWords = map[string]scenarioWord{
		"kill": {1, 16, true, func(p *scenarioPool, a []string) error { return p.each(a, true, p.sim.kill) }},
		"exit": {1, 16, true, func(p *scenarioPool, a []string) error { return p.each(a, true, p.sim.killAgent) }},
		"boot": {1, 16, true, func(p *scenarioPool, a []string) error { return p.each(a, false, p.sim.boot) }},
		"cut": {1, 16, true, func(p *scenarioPool, a []string) error {
			return p.each(a, true, p.flag(func(h *simHost) { h.cut = true }))
		}},
		"hang": {1, 16, true, func(p *scenarioPool, a []string) error {
			return p.each(a, true, p.flag(func(h *simHost) { h.hung = true }))
		}},
		"heal":         onHosts(func(h *simHost) { h.cut, h.hung = false, false }),
		"deaf":         onHosts(func(h *simHost) { h.deaf = true }),
		"hears":        onHosts(func(h *simHost) { h.deaf = false }),
		"stuck":        onHosts(func(h *simHost) { h.stuck = true }),
		"loose":        onHosts(func(h *simHost) { h.stuck = false }),
		"cannot-start": onHosts(func(h *simHost) { h.failStart = true }),
		"can-start":    onHosts(func(h *simHost) { h.failStart = false }),
		"drops-role":   onHosts(func(h *simHost) { h.setRole(RoleNone, 0) }),
		"renewals": {2, 17, false, func(p *scenarioPool, a []string) error {
			p.alter(func() {
				for _, name := range p.named(a[1:]) {
					if h := p.sim.hosts[name]; h != nil {
						h.renewals = a[0]
					}
				}
			})
			return nil
		}},
		"uses":  {1, 8, false, (*scenarioPool).wordUses},
		"lun":   {3, 18, false, (*scenarioPool).wordLUN},
		"space": {2, 2, false, (*scenarioPool).wordSpace},
		"holds": {1, 16, true, func(p *scenarioPool, a []string) error {
			return p.each(a, false, func(h string) { p.with(func() { p.stays[h] = true }) })
		}},
		"lets-go": {1, 16, true, func(p *scenarioPool, a []string) error {
			return p.each(a, false, func(h string) { p.with(func() { delete(p.stays, h) }) })
		}},
		"late-write": {1, 1, true, func(p *scenarioPool, a []string) error { return p.each(a, false, p.sim.late) }},
		"power":      {1, 3, false, (*scenarioPool).wordPower},
		"soft":       {1, 1, false, func(p *scenarioPool, a []string) error { p.with(func() { p.softs = a[0] }); return nil }},
		"dump":       {1, 1, false, (*scenarioPool).wordDump},
		"quorum":     {1, 1, false, func(p *scenarioPool, a []string) error { p.alter(func() { p.quorum = a[0] == "back" }); return nil }},
		"clock":      {2, 2, false, (*scenarioPool).wordClock},
		"lead":       {1, 1, true, func(p *scenarioPool, a []string) error { p.abdicate(); p.lead(a[0]); return nil }},
		"also-leads": {1, 1, true, func(p *scenarioPool, a []string) error { p.lead(a[0]); return nil }},
		"leaderless": {0, 0, false, func(p *scenarioPool, _ []string) error { p.abdicate(); return nil }},
		"operator":   {1, 5, false, nil}, // the script's own: people wait
		"expect":     {2, 3, false, (*scenarioPool).wordExpect},
	}
}

func (p *scenarioPool) with(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *scenarioPool) flag(change func(h *simHost)) func(string) {
	return func(name string) { p.sim.set(name, change) }
}

func (p *scenarioPool) change(name string, change func(h *simHost)) error {
	if p.sim.hosts[name] == nil {
		return fmt.Errorf("%q is none of the hosts", name)
	}
	p.sim.set(name, change)
	return nil
}

// each does something to hosts. A leader among them that is lost to the others leads no more.
func (p *scenarioPool) each(args []string, lost bool, do func(string)) error {
	for _, name := range p.named(args) {
		if lost && slices.ContainsFunc(p.leaders, func(l leading) bool { return l.host == name }) {
			p.abdicate()
		}
		do(name)
	}
	return nil
}

// abdicate ends all terms.
func (p *scenarioPool) abdicate() {
	for _, l := range p.leaders {
		l.stop()
	}
	p.leaders = nil
}

func (p *scenarioPool) wordUses(a []string) error {
	var uses []string
	if len(a) > 1 && a[1] != "nothing" {
		uses = []string{strings.Join(a[1:], " ")}
	}
	return p.change(a[0], func(h *simHost) { h.uses = uses })
}

// wordLUN is "lun DOMAIN fails|hangs|back on HOSTS".
func (p *scenarioPool) wordLUN(a []string) error {
	id, code := domainNames[a[0]], map[string]string{"fails": DomainUnreachable, "hangs": DomainHung, "back": ""}
	c, ok := code[a[1]]
	if id == "" || !ok || a[2] != "on" || len(a) < 4 {
		return errors.New("say: lun san1|san2 fails|hangs|back on HOST...")
	}
	return p.each(a[3:], false, func(h string) {
		p.with(func() {
			if p.codes[h] == nil {
				p.codes[h] = map[string]string{}
			}
			p.codes[h][id] = c
		})
	})
}

// wordSpace has the SPM measure how much is free.
func (p *scenarioPool) wordSpace(a []string) error {
	free, err := strconv.ParseInt(a[1], 10, 64)
	d, ok := p.View().Domains.Get(domainNames[a[0]])
	if err != nil || !ok {
		return errors.New("say: space san1|san2 FREE_BYTES")
	}
	d.Free, d.Seq = free, d.Seq+1
	out, err := p.Apply(p.t.Context(), &fsm.DomainPut{Domain: d})
	return errors.Join(err, out.Err())
}

// wordPower is "power dead|back HOST", or for all devices "power lies|swears|hangs|honest|no-on", or "power slow TIME".
func (p *scenarioPool) wordPower(a []string) error {
	switch {
	case len(a) == 2 && (a[0] == "dead" || a[0] == "back"):
		return p.each(a[1:], false, func(h string) { p.with(func() { p.dead[h] = a[0] == "dead" }) })
	case len(a) == 2 && a[0] == "slow":
		d, err := span0(a[1])
		p.alter(func() { p.offTakes = d })
		return err
	case len(a) != 1:
		return errors.New("say: power dead|back HOST, or slow TIME, or lies, swears, hangs, no-on, honest")
	}
	p.alter(func() {
		p.offLies, p.statusLies, p.offHangs, p.noOn = a[0] == "lies" || a[0] == "swears", a[0] == "swears", a[0] == "hangs", a[0] == "no-on"
	})
	return nil
}

func (p *scenarioPool) wordDump(a []string) error {
	d, err := span0(a[0])
	p.with(func() { p.dump = d })
	return err
}

// wordClock sets a host's clock apart from the others, before it leads: "clock HOST +1h".
func (p *scenarioPool) wordClock(a []string) error {
	d, err := time.ParseDuration(a[1])
	p.with(func() { p.clocks[a[0]] = d })
	return err
}

// wordExpect compares: "serving HOST|nobody", "state HOST STATE", "domain NAME STATUS", "offs N", "proven HOST", "unproven HOST", "row ROW_WITH_DASHES".
func (p *scenarioPool) wordExpect(a []string) error {
	var got string
	want := a[len(a)-1]
	switch a[0] {
	case "serving":
		got = orNobody(p.serving())
	case "state":
		got = p.hostOf(a[1]).State
	case "domain":
		d, _ := p.View().Domains.Get(domainNames[a[1]])
		got = d.CurrentStatus()
	case "offs":
		got = strconv.Itoa(p.switched().offs)
	case "moves":
		got = strconv.Itoa(countEvents(p.sim, kindMoved))
	case "proof":
		h := p.hostOf(a[1])
		got = "none"
		if proof, ok := p.View().ProofFor(h); ok {
			got = proof.Kind
		}
	case "row":
		if len(p.leaders) > 0 {
			st, _ := p.leaders[len(p.leaders)-1].m.Status()
			got = dashes(string(st.Row))
		}
	case "master":
		got = nameOfDomain(p.masterID())
	default:
		return fmt.Errorf("nothing is known about %q", a[0])
	}
	if got != want {
		return fmt.Errorf("expected %s, got %q", strings.Join(a, " "), got)
	}
	return nil
}

// dashes writes a row of the table as one word.
func dashes(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' {
			return '-'
		}
		if r == ',' || r == ':' {
			return -1
		}
		return r
	}, s)
}

func orNobody(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

// softRestart is the command that tries to bring a host back.
func (p *scenarioPool) softRestart(_ context.Context, h fsm.Host) (string, error) {
	p.mu.Lock()
	how := p.softs
	p.mu.Unlock()
	if how == "heals" {
		p.sim.set(h.Name, func(x *simHost) { x.cut, x.hung = false, false })
		return "ran", nil
	}
	return "", errors.New("no route to host")
}

// Await and Finished make the pool a CrashListener.
func (p *scenarioPool) Await(ctx context.Context, _ fsm.Host, start time.Duration) (bool, string, error) {
	return fakeKdump{p.dumps()}.Await(ctx, fsm.Host{}, start)
}

func (p *scenarioPool) Finished(ctx context.Context, h fsm.Host, limit time.Duration) (string, error) {
	return fakeKdump{p.dumps()}.Finished(ctx, h, limit)
}

func (p *scenarioPool) dumps() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dump
}
