package nemesis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

var devBounds = history.Bounds{IOTimeout: time.Second, Watchdog: 2 * time.Second}

// fakePool is a pool of which only what is wrong is known: one word for each thing. Nothing is wrong: the map is empty.
type fakePool struct {
	hosts []string

	mu     sync.Mutex
	wrong  map[string]bool
	most   int // how much was wrong at the same time
	calls  map[string]int
	fail   map[string]error         // by call
	hang   map[string]chan struct{} // by call; it waits for it
	worst  int                      // most hosts with spoilt data at once
	joined map[string]bool
}

func newFakePool(n int) *fakePool {
	p := &fakePool{wrong: map[string]bool{}, calls: map[string]int{}, fail: map[string]error{}, hang: map[string]chan struct{}{}, joined: map[string]bool{}}
	for i := range n {
		h := fmt.Sprintf("h%d", i+1)
		p.hosts = append(p.hosts, h)
		p.joined[h] = true
	}
	return p
}

// set says that things are wrong, or no longer.
func (p *fakePool) set(call string, wrong bool, what ...string) error {
	p.mu.Lock()
	hang := p.hang[call]
	p.mu.Unlock()
	if hang != nil {
		<-hang
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[call]++
	if err := p.fail[call]; err != nil {
		return err
	}
	for _, w := range what {
		if delete(p.wrong, w); wrong {
			p.wrong[w] = true
		}
	}
	p.most = max(p.most, len(p.wrong))
	spoilt := 0
	for _, h := range p.hosts {
		spoilt += min(1, len(p.withPrefix("data "+h)))
	}
	p.worst = max(p.worst, spoilt)
	return nil
}

func (p *fakePool) withPrefix(prefix string) (l []string) {
	for w := range p.wrong {
		if len(w) >= len(prefix) && w[:len(prefix)] == prefix {
			l = append(l, w)
		}
	}
	return l
}

// state is what is wrong, sorted.
func (p *fakePool) state() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.wrong))
}

func (p *fakePool) clear(call string, prefixes ...string) error {
	p.mu.Lock()
	var what []string
	for _, x := range prefixes {
		what = append(what, p.withPrefix(x)...)
	}
	p.mu.Unlock()
	return p.set(call, false, what...)
}

func (p *fakePool) Hosts() []string              { return p.hosts }
func (p *fakePool) Client(string) *client.Client { return nil }
func (p *fakePool) Kill(h string, part Part) error {
	return p.set("kill", true, "dead "+h+" "+string(part))
}
func (p *fakePool) PowerOff(h string) error { return p.set("off", true, "dead "+h+" both") }
func (p *fakePool) Pause(h string, part Part) error {
	return p.set("pause", true, "stopped "+h+" "+string(part))
}
func (p *fakePool) Start(_ context.Context, h string) error { return p.clear("start", "dead "+h) }
func (p *fakePool) Resume(h string, part Part) error {
	if part == Machine {
		return p.clear("resume", "stopped "+h)
	}
	return p.set("resume", false, "stopped "+h+" "+string(part))
}
func (p *fakePool) Block(a, b string, t Traffic) error {
	return p.set("block", true, "net "+a+">"+b+" "+string(t))
}
func (p *fakePool) Unplug(h string) error        { return p.set("unplug", true, "net "+h) }
func (p *fakePool) Plug(h string) error          { return p.set("plug", false, "net "+h) }
func (p *fakePool) MendNetwork() error           { return p.clear("mend", "net ") }
func (p *fakePool) UnplugStorage(h string) error { return p.set("unplugstorage", true, "cable "+h) }
func (p *fakePool) PlugStorage(h string) error   { return p.set("plugstorage", false, "cable "+h) }
func (p *fakePool) FillDisk(h string) error      { return p.set("fill", true, "disk "+h+" full") }
func (p *fakePool) FreeDisk(h string) error      { return p.set("free", false, "disk "+h+" full") }
func (p *fakePool) FreezeDisk(h string) error    { return p.set("freeze", true, "disk "+h+" frozen") }
func (p *fakePool) ThawDisk(h string) error      { return p.set("thaw", false, "disk "+h+" frozen") }
func (p *fakePool) Damage(h string, what Spoil, _ int64) error {
	if len(p.withDead(h)) == 0 {
		return errors.New("the host runs")
	}
	return p.set("damage "+string(what), true, "data "+h+" "+string(what))
}
func (p *fakePool) Undamage(h string) error {
	if len(p.withDead(h)) == 0 {
		return errors.New("the host runs")
	}
	return p.clear("undamage", "data "+h)
}

func (p *fakePool) withDead(h string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.withPrefix("dead " + h + " both")
}

func (p *fakePool) SetClock(h string, off time.Duration, ppm int64) error {
	return p.set("clock", off != 0 || ppm != 0, "clock "+h)
}
func (p *fakePool) SetSwitch(h, ails string) error { return p.set("switch", ails != "", "switch "+h) }
func (p *fakePool) LUN() LUN                       { return fakeLUN{p} }

type fakeLUN struct{ p *fakePool }

func (l fakeLUN) Path(h string) Path { return fakePath{l.p, h} }
func (l fakeLUN) Gone(gone bool)     { _ = l.p.set("gone", gone, "lun") }

type fakePath struct {
	p *fakePool
	h string
}

func (x fakePath) name(what string) string    { return "path " + x.h + " " + what }
func (x fakePath) Cut()                       { _ = x.p.set("cut", true, x.name("cut")) }
func (x fakePath) Join()                      { _ = x.p.set("join", false, x.name("cut")) }
func (x fakePath) Hang()                      { _ = x.p.set("hang", true, x.name("hung")) }
func (x fakePath) Stick(int)                  { _ = x.p.set("stick", true, x.name("hung")) }
func (x fakePath) Release(bool)               { _ = x.p.set("release", false, x.name("hung")) }
func (x fakePath) Slow(_, _, _ time.Duration) { _ = x.p.set("slow", true, x.name("slow")) }
func (x fakePath) Fast()                      { _ = x.p.set("fast", false, x.name("slow")) }
func (x fakePath) FailReads(int)              { _ = x.p.set("eio", true, x.name("reads")) }
func (x fakePath) FailWrites(int)             { _ = x.p.set("eio", true, x.name("writes")) }
func (x fakePath) TearNext() <-chan struct{} {
	_ = x.p.set("tear", true, x.name("torn"))
	c := make(chan struct{})
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	if x.p.calls["tear"]%2 == 1 {
		close(c)
	}
	return c
}
func (x fakePath) Heal() { _ = x.p.clear("heal", "path "+x.h, "cable "+x.h) }

// fakeAdmin answers for a fakePool.
type fakeAdmin struct{ p *fakePool }

func (a fakeAdmin) look(context.Context) view {
	return view{spm: "h2", leader: a.p.hosts[len(a.p.hosts)-1], alive: a.p.hosts}
}
func (a fakeAdmin) moveSPM(context.Context, string, string) error { return a.p.set("move", false) }
func (a fakeAdmin) transfer(context.Context, string, string) error {
	return a.p.set("transfer", false)
}
func (a fakeAdmin) powerOff(_ context.Context, via, h string) error {
	if via == h {
		return errors.New("no host acts on its own power")
	}
	return a.p.set("order", true, "dead "+h+" both")
}
func (a fakeAdmin) leave(_ context.Context, h string) error { return a.p.set("leave", true, "left "+h) }
func (a fakeAdmin) join(_ context.Context, h string) error {
	return a.p.set("rejoin", false, "left "+h)
}

// newExecutor has the virtual clock of the test's bubble.
func newExecutor(p *fakePool, s Schedule, kinds []Nemesis) (*Executor, *[]history.Fault) {
	begun := time.Now()
	var mu sync.Mutex
	faults := &[]history.Fault{}
	return &Executor{
		Cluster: p, Bounds: devBounds, Kinds: kinds, Schedule: s, Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler), admin: fakeAdmin{p},
		Now: func() time.Duration { return time.Since(begun) },
		Record: func(f history.Fault) {
			mu.Lock()
			defer mu.Unlock()
			*faults = append(*faults, f)
		},
	}, faults
}

func mustMake(t *testing.T, seed uint64, hosts int, length time.Duration, kinds []Nemesis) Schedule {
	t.Helper()
	s, err := Make(seed, hosts, length, devBounds, kinds, Combined)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
