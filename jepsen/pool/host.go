package pool

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
)

// The marks in the environment of everything that belongs to a pool and to one of its hosts.
const (
	poolMark = "HOLDFAST_JEPSEN_POOL"
	hostMark = "HOLDFAST_JEPSEN_HOST"
)

// The ports of agents in namespaces of their own, and of the LUN's server.
const (
	raftPort   = 7420
	gossipPort = 7421
	httpPort   = 7422
	lunPort    = 10809
)

// host is one host of a pool. run owns the agent's process; the methods of Pool only change what run is to do.
type host struct {
	p    *Pool
	name string
	log  *slog.Logger

	ns, storageNS string // network namespaces; empty on loopback
	addr          string // IP address on the pool network
	lun           string // URI
	serveAt       string // where the LUN's server listens for this host
	dir           string // sockets, configuration, clock; the agent's working directory; never hung
	data          string // data directory
	disk          *disk  // nil: the data directory is a plain folder
	conf          config.Agent
	dog           *dog // nil: without watchdog
	client        *client.Client

	power  sync.Mutex // one power action at a time; guards wounds
	wounds []wound

	mu      sync.Mutex     // guards what follows
	want    bool           // an agent is to run
	wake    chan struct{}  // closed and renewed when want changes
	pid     int            // of the agent; 0: none
	gone    chan struct{}  // closed when the agent of pid has exited and its end is recorded
	restart bool           // what dies by itself is started again
	again   bool           // somebody wants another try in spite of that
	off     bool           // without power: disk and storage path are gone too
	exits   []Exit         // of agents
	keepers map[int]bool   // that were seen, to be reaped
	orphans sync.WaitGroup // reapers of keepers
}

func newHost(p *Pool, i int) (*host, error) {
	name := fmt.Sprintf("h%d", i+1)
	h := &host{p: p, name: name, log: p.cfg.Log.With("host", name), restart: true, wake: make(chan struct{}), keepers: map[int]bool{},
		dir: filepath.Join(p.cfg.Dir, name)}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of %s: %w", name, err)
	}
	h.data = filepath.Join(h.dir, "data")
	cluster, gossip, http := raftPort, gossipPort, httpPort
	if p.can[Network] {
		h.ns, h.storageNS = p.cfg.Tag+"-"+name, fmt.Sprintf("%s-l%d", p.cfg.Tag, i+1)
		h.addr, h.serveAt = fmt.Sprintf("10.77.0.%d", i+1), net.JoinHostPort(lunAddr, strconv.Itoa(lunPort))
		h.lun = "nbd://" + h.serveAt + "/" + Export
	} else {
		const socket = "lun.sock" // in the agent's own folder, so that the same name leads each host its own way
		h.addr, h.serveAt = "127.0.0.1", filepath.Join(h.dir, socket)
		h.lun = (&url.URL{Scheme: "nbd+unix", Path: "/" + Export, RawQuery: "socket=" + socket}).String()
		ports, err := freePorts(3)
		if err != nil {
			return nil, err
		}
		cluster, gossip, http = ports[0], ports[1], ports[2]
	}
	h.configure(cluster, gossip, http)
	var err error
	h.client, err = client.New(client.Config{Address: "unix://" + h.conf.UnixSocket, Timeout: 30 * time.Second})
	return h, err
}

// configure decides what the agent's configuration file says. Nothing but the data directory is on the host's disk.
func (h *host) configure(cluster, gossip, http int) {
	at := func(port int) string { return net.JoinHostPort(h.addr, strconv.Itoa(port)) }
	c := config.Default()
	c.Name, c.DataDir, c.Profile, c.Watchdog = h.name, h.data, h.p.cfg.Profile, "none"
	c.UnixSocket = filepath.Join(h.dir, "api.sock")
	c.Cluster.Listen, c.Gossip.Listen, c.HTTP.Listen = at(cluster), at(gossip), at(http)
	c.Devices = []string{h.lun}
	if h.p.cfg.Watchdog {
		c.Watchdog = "wdmd:" + h.dogSocket()
	}
	if h.p.cfg.Configure != nil {
		h.p.cfg.Configure(h.name, &c)
	}
	h.conf = c
}

// writeConfig writes the configuration file and an unmoved clock.
func (h *host) writeConfig() error {
	err := h.conf.Validate()
	var doc []byte
	if err == nil {
		doc, err = config.Print(h.conf)
	}
	if err == nil {
		err = errors.Join(os.WriteFile(h.configFile(), doc, 0o600), h.writeClock(0, 0), h.boot())
	}
	if err != nil {
		return fmt.Errorf("configuring host %s: %w", h.name, err)
	}
	return nil
}

func (h *host) configFile() string { return filepath.Join(h.dir, "agent.yaml") }

func (h *host) mark() string { return hostMark + "=" + h.p.cfg.Tag + "-" + h.name }

// command is the agent. nsenter takes only the network from the namespace and gives its place to the agent, so the pid stays;
// `ip netns exec` would copy every mount too, and hold all hosts' disks for as long as one agent lives.
func (h *host) command() *exec.Cmd {
	args := []string{h.p.cfg.Binary, "agent", "--config", h.configFile()}
	if h.ns != "" {
		args = append([]string{"nsenter", "--net=/run/netns/" + h.ns, "--"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // run ends it in order
	cmd.Dir = h.dir
	cmd.Env = append(cmd.Environ(), h.p.cfg.Env...)
	cmd.Env = append(cmd.Env, poolMark+"="+h.p.cfg.Tag, h.mark(), clockEnv+"="+h.clockFile(), bootEnv+"="+h.bootFile())
	return cmd
}
