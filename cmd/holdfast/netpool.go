package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
)

// netPool is a pool of agents that each have a network namespace of their own, on one LUN file. A host's cable can be pulled
// while it reaches the LUN. It is not safe for concurrent use, but its clients are.
type netPool struct {
	tag   string // in the names of the namespaces
	dir   string
	lun   string
	hosts []*netHost
}

// netHost is one agent of a netPool.
type netHost struct {
	*client.Client
	name string
	ns   string
	addr string
	conf config.Agent
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended

	server *exec.Cmd // its own way to the LUN, with a record of all that it writes; nil: the file itself
}

// ip runs the ip program.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

// newNetPool makes namespaces, agents and a pool of a profile in dir. After an error nothing is left.
// With recorded, each host reaches the LUN through an nbdkit of its own, which keeps a record.
func newNetPool(ctx context.Context, dir, profile string, n int, recorded bool) (*netPool, error) {
	p := &netPool{tag: fmt.Sprintf("hf%d", os.Getpid()), dir: dir, lun: filepath.Join(dir, "lun.img")}
	if err := p.build(ctx, profile, n, recorded); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// netPoolLUN is sparse: large enough for whatever is tried with it.
const netPoolLUN = 512 * gib

func (p *netPool) build(ctx context.Context, profile string, n int, recorded bool) error {
	if _, err := makeLUN(p.lun, netPoolLUN); err != nil {
		return err
	}
	if err := p.wire(n); err != nil {
		return err
	}
	for _, h := range p.hosts {
		if recorded {
			if err := p.record(ctx, h); err != nil {
				return err
			}
		}
		if err := p.launch(h, profile); err != nil {
			return err
		}
	}
	return p.form(ctx)
}

// errNoNetwork says that the machine has no network namespaces for us.
var errNoNetwork = errors.New("no network could be made for the hosts; it takes root and the program ip")

func (p *netPool) sw() string { return p.tag + "-sw" }

// wire makes a namespace with a bridge, and one for each host with a cable to it.
func (p *netPool) wire(n int) error {
	for i := range n {
		name := fmt.Sprintf("h%d", i+1)
		p.hosts = append(p.hosts, &netHost{name: name, ns: p.tag + "-" + name, addr: fmt.Sprintf("10.77.0.%d", i+1), done: make(chan struct{})})
	}
	steps := [][]string{
		{"netns", "add", p.sw()}, {"-n", p.sw(), "link", "add", "br0", "type", "bridge"}, {"-n", p.sw(), "link", "set", "br0", "up"},
	}
	for _, h := range p.hosts {
		steps = append(steps, []string{"netns", "add", h.ns}, []string{"-n", h.ns, "link", "set", "lo", "up"},
			[]string{"-n", h.ns, "link", "add", "eth0", "type", "veth", "peer", "name", h.name, "netns", p.sw()},
			[]string{"-n", p.sw(), "link", "set", h.name, "master", "br0", "up"},
			[]string{"-n", h.ns, "addr", "add", h.addr + "/24", "dev", "eth0"}, []string{"-n", h.ns, "link", "set", "eth0", "up"})
	}
	for _, args := range steps {
		if err := ip(args...); err != nil {
			return fmt.Errorf("%w: %w", errNoNetwork, err)
		}
	}
	return nil
}

// recordedLUN is the LUN's address on every host of a pool with records: each has its own server there.
const recordedLUN = "nbd://127.0.0.1:10809/lun"

// record starts a host's own server of the LUN.
func (p *netPool) record(ctx context.Context, h *netHost) error {
	h.server = exec.Command("nsenter", h.inNS(), "nbdkit", "--foreground", "--ipaddr", "127.0.0.1", "--port", "10809",
		"--exportname", "lun", "--pidfile", p.recordOf(h)+".pid", "--filter=log", "file", p.lun, "logfile="+p.recordOf(h))
	if err := h.server.Start(); err != nil {
		return fmt.Errorf("starting the LUN's server of %s: %w", h.name, err)
	}
	// It writes its pid when it listens.
	return poll(ctx, "the LUN's server of "+h.name+" listens", func() error { _, err := os.Stat(p.recordOf(h) + ".pid"); return err })
}

// inNS tells nsenter the host's network. The mounts stay those of the machine: `ip netns exec` would copy them all, and a disk that
// somebody unmounts meanwhile would stay in use for as long as the agent lives.
func (h *netHost) inNS() string { return "--net=/run/netns/" + h.ns }

func (p *netPool) recordOf(h *netHost) string { return filepath.Join(p.dir, h.name+".record") }

// device is the LUN as the hosts name it.
func (p *netPool) device() string {
	if p.hosts[0].server != nil {
		return recordedLUN
	}
	return p.lun
}

// launch starts a host's agent in its namespace.
func (p *netPool) launch(h *netHost, profile string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	c := config.Default()
	c.Name, c.DataDir, c.Profile, c.Watchdog = h.name, filepath.Join(p.dir, h.name), profile, "none"
	c.UnixSocket = filepath.Join(c.DataDir, "api.sock")
	c.Cluster.Listen, c.Gossip.Listen, c.HTTP.Listen = h.addr+":7420", h.addr+":7421", h.addr+":7422"
	c.Devices = []string{p.device()}
	h.conf = c
	doc, err := config.Print(c)
	if err == nil {
		err = os.MkdirAll(c.DataDir, 0o700)
	}
	path := filepath.Join(c.DataDir, "agent.yaml")
	if err == nil {
		err = os.WriteFile(path, doc, 0o600)
	}
	if err == nil {
		h.Client, err = client.New(client.Config{Address: "unix://" + c.UnixSocket})
	}
	if err != nil {
		return fmt.Errorf("configuring host %s: %w", h.name, err)
	}
	h.log = agentLog(c.DataDir)
	log, err := os.OpenFile(h.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	h.cmd = exec.Command("nsenter", h.inNS(), self, "agent", "--config", path) // the program takes nsenter's place
	h.cmd.Stdout, h.cmd.Stderr = log, log
	if err := h.cmd.Start(); err != nil {
		return fmt.Errorf("starting the agent of %s: %w", h.name, err)
	}
	go func() {
		_ = h.cmd.Wait() // whoever asked it to end knows why it did
		close(h.done)
	}()
	return nil
}

// form makes the pool and lets the others join.
func (p *netPool) form(ctx context.Context) error {
	for i, h := range p.hosts {
		if err := poll(ctx, "the agent answers", func() error { _, err := h.Health(ctx); return err }); err != nil {
			return fmt.Errorf("host %s: %w; its last words: %v", h.name, err, tail(h.log, 5))
		}
		if i == 0 {
			if _, err := h.Init(ctx, api.Init{Pool: "net", Profile: h.conf.Profile, Devices: []string{p.device()}}); err != nil {
				return fmt.Errorf("making the pool: %w", err)
			}
			continue
		}
		tok, err := p.hosts[0].CreateToken(ctx, api.TokenCreate{Role: api.RoleJoin})
		if err == nil {
			_, err = h.Join(ctx, api.Join{Address: p.hosts[0].addr + ":7420", Token: tok.Secret})
		}
		if err != nil {
			return fmt.Errorf("joining %s: %w", h.name, err)
		}
	}
	return p.awaitUp(ctx)
}

// awaitUp waits until every host is up and could be SPM, by the word of each, and somebody is.
func (p *netPool) awaitUp(ctx context.Context) error {
	return poll(ctx, "every host is up", func() error {
		for _, h := range p.hosts {
			st, _, err := h.Status(ctx, client.Read{})
			if err != nil {
				return err
			}
			if st.SPM.State != api.SPMServing || st.Raft.Leader == "" {
				return errors.New("nobody is SPM, or nobody leads")
			}
			for _, m := range st.Hosts {
				if m.State != api.HostUp || !m.Alive {
					return fmt.Errorf("%s is %s", m.Name, m.State)
				}
			}
			if len(st.Hosts) != len(p.hosts) {
				return fmt.Errorf("%d hosts", len(st.Hosts))
			}
			if health, err := h.Health(ctx); err != nil || !health.OK {
				return fmt.Errorf("%s: %s: %w", h.name, health.Reason, err)
			}
		}
		return nil
	})
}

// host finds a host by name.
func (p *netPool) host(name string) *netHost {
	for _, h := range p.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// other is some host that is not among those named.
func (p *netPool) other(names ...string) *netHost {
	for _, h := range p.hosts {
		named := false
		for _, n := range names {
			named = named || h.name == n
		}
		if !named {
			return h
		}
	}
	return nil
}

// plug pulls a host's cable, or puts it back.
func (p *netPool) plug(h *netHost, in bool) error {
	state := map[bool]string{true: "up", false: "down"}[in]
	return ip("-n", p.sw(), "link", "set", h.name, state)
}

// handOver pulls the cable of the SPM, which does not lead unless leading is set, and returns how long it took until another
// host was SPM by the word of those that are left. The cable is put back, and everything is well again, when it returns.
func (p *netPool) handOver(ctx context.Context, leading bool) (took time.Duration, was string, err error) {
	if err := p.awaitUp(ctx); err != nil {
		return 0, "", err
	}
	st, _, err := p.hosts[0].Status(ctx, client.Read{Consistent: true})
	if err != nil {
		return 0, "", err
	}
	spm := p.host(st.SPM.Host)
	if want := spm.name; leading != (st.Raft.Leader == want) {
		to := want
		if !leading {
			to = p.other(want).name
		}
		if _, err := p.hosts[0].TransferLeadership(ctx, api.RaftTransfer{To: to}); err != nil {
			return 0, "", err
		}
		time.Sleep(2 * time.Second) // a new leader has seen everybody
	}
	left := p.other(spm.name)
	begun := time.Now()
	if err := p.plug(spm, false); err != nil {
		return 0, "", err
	}
	err = poll(ctx, "another host is SPM", func() error {
		s, _, err := left.SPM(ctx, client.Read{})
		if err == nil && (s.State != api.SPMServing || s.Host == spm.name) {
			err = fmt.Errorf("%s is %s", s.Host, s.State)
		}
		return err
	})
	took = time.Since(begun)
	if perr := p.plug(spm, true); err == nil {
		err = perr
	}
	if err == nil {
		err = p.awaitUp(ctx)
	}
	return took, spm.name, err
}

// Close ends the agents in order and takes the network away.
func (p *netPool) Close() {
	for _, h := range p.hosts {
		if h.cmd != nil && h.cmd.Process != nil {
			_ = h.cmd.Process.Signal(sigTerm)
		}
	}
	for _, h := range p.hosts {
		if h.cmd == nil || h.cmd.Process == nil {
			continue
		}
		select {
		case <-h.done:
		case <-time.After(stopGrace):
			_ = h.cmd.Process.Kill()
			<-h.done
		}
		h.Client.Close()
	}
	for _, h := range p.hosts {
		if h.server != nil && h.server.Process != nil {
			_ = h.server.Process.Kill()
			_ = h.server.Wait() // killed
		}
		_ = ip("netns", "del", h.ns) // it may not have been made
	}
	_ = ip("netns", "del", p.sw())
}
