package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/procs"
)

// Pool is a set of hosts. Its methods may be called at the same time; two power actions on one host wait for each other.
type Pool struct {
	cfg      Config
	can      map[Ability]bool
	hosts    []*host
	spawn    *procs.Spawner
	thaw     *thawer
	wired    bool // every cable is there
	stop     context.CancelFunc
	runs     sync.WaitGroup // the supervisors
	stopDogs context.CancelFunc
	watches  sync.WaitGroup // of the watchdogs
	fences   *fences        // nil: nobody can switch others off

	net     sync.Mutex // guards rules, and changes of the network
	rules   map[rule]bool
	closing sync.Once
	closed  error
}

// Open makes network, disks and the ways to the LUN. No agent runs yet; Form or Start starts them. After an error nothing is left.
func Open(cfg Config) (*Pool, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, can: map[Ability]bool{}, rules: map[rule]bool{}}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	dogs, stopDogs := context.WithCancel(context.Background())
	p.stopDogs = stopDogs
	if err := p.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a pool of %d hosts: %w", cfg.Hosts, err), p.Close())
	}
	for _, h := range p.hosts {
		p.runs.Go(func() { h.run(ctx) })
		if h.dog != nil {
			p.watches.Go(func() { h.dog.run(dogs) })
		}
	}
	return p, nil
}

// build makes everything that hosts stand on.
func (p *Pool) build() (err error) {
	if p.spawn, err = procs.NewSpawner(); err != nil {
		return err
	}
	root := os.Geteuid() == 0 && !p.cfg.Plain
	p.can[Network], p.can[Storage], p.can[Disk] = root, root, root
	for _, dir := range []string{p.cfg.Dir, p.cfg.Disks, p.cfg.Logs} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the pool's folders: %w", err)
		}
	}
	for i := range p.cfg.Hosts {
		h, err := newHost(p, i)
		if err != nil {
			return err
		}
		p.hosts = append(p.hosts, h)
	}
	if root {
		if err := p.wire(); err != nil {
			return err
		}
		if err := p.makeDisks(); err != nil {
			return err
		}
	}
	return p.furnish()
}

// furnish gives each host its way to the LUN and its files.
func (p *Pool) furnish() error {
	for _, h := range p.hosts {
		if err := p.cfg.Serve(h.name, h.storageNS, h.serveAt); err != nil {
			return fmt.Errorf("serving the LUN to %s: %w", h.name, err)
		}
		if err := h.writeConfig(); err != nil {
			return err
		}
	}
	if p.cfg.Fencing {
		if err := p.serveFences(); err != nil {
			return err
		}
	}
	if p.cfg.Watchdog {
		return p.makeDogs()
	}
	return nil
}

// makeDogs gives each host a watchdog, or none at all after an error.
func (p *Pool) makeDogs() error {
	for _, h := range p.hosts {
		d, err := newDog(h)
		if err != nil {
			for _, h := range p.hosts {
				if h.dog != nil {
					err = errors.Join(err, h.dog.ln.Close())
				}
			}
			return err
		}
		h.dog = d
	}
	return nil
}

// Hosts are the names, in order.
func (p *Pool) Hosts() []string {
	var names []string
	for _, h := range p.hosts {
		names = append(names, h.name)
	}
	return names
}

// Can says whether something is possible here.
func (p *Pool) Can(a Ability) bool { return p.can[a] }

// Tag is what Sweep needs to know of this pool.
func (p *Pool) Tag() string { return p.cfg.Tag }

// LUN is the address of the LUN, as every host names it.
func (p *Pool) LUN() string { return p.hosts[0].lun }

// Client talks to a host over its unix socket, as local root; nil for a host that there is none of. Calls should have short
// deadlines of their own.
func (p *Pool) Client(name string) *client.Client {
	h, err := p.host(name)
	if err != nil {
		return nil
	}
	return h.client
}

// Logs is the file with all that a host's agent and keepers have said.
func (p *Pool) Logs(name string) string { return filepath.Join(p.cfg.Logs, name+".log") }

// DataDir is a host's data directory; empty for a host that there is none of.
func (p *Pool) DataDir(name string) string {
	h, err := p.host(name)
	if err != nil {
		return ""
	}
	return h.data
}

// Namespace is a host's network namespace; empty without one.
func (p *Pool) Namespace(name string) string {
	h, err := p.host(name)
	if err != nil {
		return ""
	}
	return h.ns
}

func (p *Pool) host(name string) (*host, error) {
	for _, h := range p.hosts {
		if h.name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoHost, name)
}

// need finds a host that is to suffer something that takes an ability.
func (p *Pool) need(a Ability, name string) (*host, error) {
	if !p.can[a] {
		return nil, fmt.Errorf("%s of %s: %w", a, name, ErrCannot)
	}
	return p.host(name)
}

// Close ends all agents in order and takes everything away, whatever state it is in. Logs and the folder stay. A second call
// says what the first one said.
func (p *Pool) Close() error {
	p.closing.Do(func() { p.closed = p.close() })
	return p.closed
}

func (p *Pool) close() error {
	var errs []error
	for _, h := range p.hosts {
		errs = append(errs, h.freeForEnd())
	}
	errs = append(errs, p.mendAll())
	if p.fences != nil {
		errs = append(errs, p.fences.close())
	}
	p.stop()
	p.runs.Wait()
	for _, h := range p.hosts {
		errs = append(errs, h.sweepProcesses())
		h.client.Close()
	}
	p.stopDogs() // a keeper ends after its agent, and takes its watchdog's word back last
	p.watches.Wait()
	if p.spawn != nil {
		p.spawn.Close()
	}
	errs = append(errs, p.removeDisks())
	if p.thaw != nil {
		errs = append(errs, p.thaw.close())
	}
	return errors.Join(append(errs, p.unwire())...)
}
