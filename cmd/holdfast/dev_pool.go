package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/procs"
)

// maxSocketPath is what fits into a unix socket's address.
const maxSocketPath = 107

// devPool is a running dev pool: the hosts' processes, the power switch and dev.json.
type devPool struct {
	o     devOptions
	st    devState
	out   io.Writer
	log   *slog.Logger
	lock  *os.File
	spawn *procs.Spawner
	hosts []*devHost
	// changed holds one token when pids may have changed since dev.json was written.
	changed chan struct{}
	started time.Time
	// file and ids are what dev.json says; owned by serve.
	file devFile
	ids  map[string]int
}

// openDevPool takes the directory, decides on ports, makes the LUN file and writes the hosts' configurations.
func openDevPool(o devOptions, out io.Writer, log *slog.Logger) (*devPool, error) {
	if err := checkDevDir(o.DataDir); err != nil {
		return nil, err
	}
	lock, err := procs.Lock(filepath.Join(o.DataDir, "dev.lock"))
	if errors.Is(err, procs.ErrLocked) {
		return nil, fmt.Errorf("another `holdfast dev` runs on this directory: %w; stop it, or use another --data-dir", err)
	}
	if err != nil {
		return nil, err
	}
	p := &devPool{o: o, out: out, log: log, lock: lock, changed: make(chan struct{}, 1), started: time.Now()}
	if err := p.prepare(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// checkDevDir makes the directory and refuses one whose sockets would have too long a name.
func checkDevDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	if longest := filepath.Join(dir, "h32", "api.sock"); len(longest) > maxSocketPath {
		return fmt.Errorf("the path of the data directory is %d bytes too long for the sockets in it: choose a shorter one",
			len(longest)-maxSocketPath)
	}
	return nil
}

// prepare brings the directory into the state from which agents can be started.
func (p *devPool) prepare() error {
	st, err := loadDevState(p.o.DataDir)
	if err != nil {
		return err
	}
	if err := st.settle(p.o); err != nil {
		return err
	}
	if err := os.RemoveAll(devFilePath(p.o.DataDir)); err != nil {
		return fmt.Errorf("removing a stale dev.json: %w", err)
	}
	made, err := makeLUN(st.LUN, p.o.LUNSize)
	if err != nil {
		return err
	}
	st.OwnLUN = st.OwnLUN || made
	p.st = st
	if err := st.save(p.o.DataDir); err != nil {
		return err
	}
	if p.spawn, err = procs.NewSpawner(); err != nil {
		return err
	}
	return p.makeHosts()
}

// makeHosts writes each host's configuration, makes sure that nothing of an earlier run lives, and checks the ports.
func (p *devPool) makeHosts() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	for _, m := range p.st.Hosts {
		dir := p.hostDir(m)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the directory of %s: %w", m.Name, err)
		}
		conf, err := devAgentConfig(p.o.DataDir, p.st, m)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "agent.yaml")
		if err := replaceFile(path, conf, 0o600); err != nil {
			return err
		}
		h := newDevHost(m.Name, dir, p.spawn, agentCommand(self, path, dir), p.notify, p.log)
		h.output = agentLog(dir)
		if err := h.sweep(); err != nil {
			return fmt.Errorf("clearing what an earlier run of %s left: %w", m.Name, err)
		}
		p.hosts = append(p.hosts, h)
	}
	return checkPorts(p.st.Hosts)
}

// agentCommand makes the command that starts an agent.
func agentCommand(self, config, dir string) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := exec.Command(self, "agent", "--config", config)
		cmd.Dir = dir
		return cmd
	}
}

func agentLog(dir string) string { return filepath.Join(dir, "agent.log") }

func (p *devPool) hostDir(m devMember) string { return filepath.Join(p.o.DataDir, m.Name) }

// notify says that pids may have changed. It does not block.
func (p *devPool) notify() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Run starts everything, forms the pool, keeps dev.json up to date until ctx ends, and stops everything in order.
func (p *devPool) Run(ctx context.Context) error {
	run := newDevRun(p)
	g, ctx := errgroup.WithContext(ctx)
	listener, err := p.listenPower(ctx)
	if err != nil {
		return err
	}
	g.Go(func() error { return servePower(ctx, listener, p) })
	run.start()
	g.Go(func() error {
		defer run.stop()
		return p.serve(ctx)
	})
	err = g.Wait()
	return errors.Join(err, run.err())
}

// serve forms the pool and then only follows its pids.
func (p *devPool) serve(ctx context.Context) error {
	start := time.Now()
	if err := p.form(ctx); err != nil {
		return err
	}
	defer os.Remove(devFilePath(p.o.DataDir))
	if err := p.publish(); err != nil {
		return err
	}
	p.greet(time.Since(start))
	return p.follow(ctx)
}

// follow rewrites dev.json whenever a pid in it changes. An agent starts its keeper anew without telling the
// supervisor, so the pids are also looked at from time to time.
func (p *devPool) follow(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.changed:
		case <-tick.C:
		}
		if err := p.publish(); err != nil {
			return err
		}
	}
}

// publish writes dev.json if it would say something new.
func (p *devPool) publish() error {
	f := p.file
	f.Hosts = make([]devFileHost, len(p.st.Hosts))
	same := len(f.Hosts) == len(p.file.Hosts)
	for i, m := range p.st.Hosts {
		f.Hosts[i] = p.describe(i, m)
		same = same && p.file.Hosts[i] == f.Hosts[i]
	}
	if same {
		return nil
	}
	p.file = f
	return writeJSONFile(devFilePath(p.o.DataDir), f)
}

// describe is one host as dev.json shows it now.
func (p *devPool) describe(i int, m devMember) devFileHost {
	dir := p.hostDir(m)
	return devFileHost{
		Name: m.Name, HostID: p.hostID(m.Name), PID: p.hosts[i].agentPID(), KeeperPID: keeperPID(dir),
		HTTP: m.url(), DataDir: dir,
	}
}

// hostID is the host id that the cluster gave out, as the pool was when it was formed.
func (p *devPool) hostID(name string) int { return p.ids[name] }

// url is the base URL of a host's API.
func (m devMember) url() string { return "http://" + loopback(m.HTTP) }

// Close gives the directory back. Every process has been stopped by Run before.
func (p *devPool) Close() {
	if p.spawn != nil {
		p.spawn.Close()
	}
	p.lock.Close()
}

// listenPower opens the socket of the power switch.
func (p *devPool) listenPower(ctx context.Context) (net.Listener, error) {
	path := powerSocket(p.o.DataDir)
	if err := os.RemoveAll(path); err != nil {
		return nil, fmt.Errorf("removing a stale power socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the power socket: %w", err)
	}
	return l, nil
}

func powerSocket(dir string) string { return filepath.Join(dir, "power.sock") }

// servePower answers the fence agent `process` until ctx ends.
func servePower(ctx context.Context, l net.Listener, s fencing.Supervisor) error {
	srv := &http.Server{Handler: fencing.Handler(s), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the power switch: %w", err)
	}
	return nil
}

// Status is the power state of a host; with Off and On it makes the pool a fencing.Supervisor.
func (p *devPool) Status(_ context.Context, host string) (fencing.State, error) {
	h, err := p.host(host)
	if err != nil {
		return fencing.Unknown, err
	}
	return h.Status()
}

// Off kills a host's processes and waits for them.
func (p *devPool) Off(ctx context.Context, host string) (fencing.Evidence, error) {
	h, err := p.host(host)
	if err != nil {
		return fencing.Evidence{}, err
	}
	return h.Off(ctx)
}

// On starts a host again.
func (p *devPool) On(_ context.Context, host string) error {
	h, err := p.host(host)
	if err != nil {
		return err
	}
	h.On()
	return nil
}

func (p *devPool) host(name string) (*devHost, error) {
	for _, h := range p.hosts {
		if h.name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", fencing.ErrUnknownHost, name)
}
