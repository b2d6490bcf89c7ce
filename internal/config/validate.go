package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)

// maxSocketPath is what fits into a socket address, in bytes.
const maxSocketPath = 107

// problems collects everything that is wrong, so that one start shows it all.
type problems []error

func (p *problems) addf(key, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

// Validate returns all problems at once, joined; each names its key.
func (c Agent) Validate() error {
	var p problems
	if !hostName.MatchString(c.Name) {
		p.addf("name", "%q is not a host name of at most 63 letters, digits, - and .", c.Name)
	}
	if !filepath.IsAbs(c.DataDir) {
		p.addf("data_dir", "%q is not an absolute path", c.DataDir)
	}
	p.oneOf("profile", c.Profile, "compatible", "fast", "dev")
	if !filepath.IsAbs(c.UnixSocket) || len(c.UnixSocket) > maxSocketPath {
		p.addf("unix_socket", "%q is not an absolute path of at most %d bytes", c.UnixSocket, maxSocketPath)
	}
	c.addresses(&p)
	c.devices(&p)
	c.fencing(&p)
	c.watchdog(&p)
	c.growth(&p)
	c.times(&p)
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "text", "json")
	return errors.Join(p...)
}

func (p *problems) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.addf(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

func (c Agent) addresses(p *problems) {
	p.address("cluster.listen", c.Cluster.Listen, true)
	p.address("cluster.advertise", c.Cluster.Advertise, false)
	p.address("gossip.listen", c.Gossip.Listen, true)
	p.address("gossip.advertise", c.Gossip.Advertise, false)
	p.address("http.listen", c.HTTP.Listen, false)
	p.address("http.advertise", c.HTTP.Advertise, false)
	if c.Cluster.Listen == c.Gossip.Listen || (c.HTTP.Listen != "" && (c.HTTP.Listen == c.Cluster.Listen || c.HTTP.Listen == c.Gossip.Listen)) {
		p.addf("listen", "cluster, gossip and http need an address each")
	}
	if (c.HTTP.CertFile == "") != (c.HTTP.KeyFile == "") {
		p.addf("http", "cert_file and key_file belong together")
	}
	if c.Dev && c.HTTP.Listen != "" && !loopback(c.HTTP.Listen) {
		p.addf("dev", "the API without authentication is for loopback only, and http.listen is %s", c.HTTP.Listen)
	}
}

// address checks host:port. A port of 0 would be another one after each start, which members could not find.
func (p *problems) address(key, a string, required bool) {
	if a == "" {
		if required {
			p.addf(key, "is missing")
		}
		return
	}
	_, port, err := net.SplitHostPort(a)
	if err != nil {
		p.addf(key, "%q is not an address and a port", a)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		p.addf(key, "%q has no port from 1 to 65535", a)
	}
}

func loopback(a string) bool {
	host, _, err := net.SplitHostPort(a)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (c Agent) devices(p *problems) {
	for i, d := range c.Devices {
		key := fmt.Sprintf("devices[%d]", i)
		if strings.HasPrefix(d, "nbd://") || strings.HasPrefix(d, "nbd+unix://") {
			continue
		}
		if !filepath.IsAbs(d) {
			p.addf(key, "%q is neither an absolute path nor an nbd:// address", d)
		} else if _, err := filepath.Match(d, "/"); err != nil {
			p.addf(key, "%q is not a valid pattern", d)
		}
	}
}

func (c Agent) fencing(p *problems) {
	p.oneOf("fencing.agent", c.Fencing.Agent, "none", "process")
	if c.Fencing.Agent == "process" && !filepath.IsAbs(c.Fencing.Socket) {
		p.addf("fencing.socket", "the agent process needs the absolute path of the supervisor's socket")
	}
	if c.Fencing.Wait <= 0 {
		p.addf("fencing.timeout", "must be greater than 0")
	}
}

// watchdog checks the form; whether it can be used is known when the pool's time is.
func (c Agent) watchdog(p *problems) {
	p.oneOf("unprotected_takeover", c.Takeover, "", "wait", "allow")
	kind, path, hasPath := strings.Cut(c.Watchdog, ":")
	switch kind {
	case "auto", "none":
		if hasPath {
			p.addf("watchdog", "%s takes no path", kind)
		}
	case "device", "wdmd":
		if hasPath && (!filepath.IsAbs(path) || len(path) > maxSocketPath) {
			p.addf("watchdog", "%q is not an absolute path of at most %d bytes", path, maxSocketPath)
		}
	default:
		p.addf("watchdog", "%q is none of auto, device:PATH, wdmd:PATH and none", c.Watchdog)
	}
}

func (c Agent) growth(p *problems) {
	if c.Growth.Chunk < 1<<20 || c.Growth.Chunk > 1<<40 {
		p.addf("growth.chunk", "must be 1 MiB to 1 TiB, is %d bytes", c.Growth.Chunk)
	}
	if c.Growth.Utilization < 0 || c.Growth.Utilization > 99 {
		p.addf("growth.utilization", "must be 0 to 99, is %d", c.Growth.Utilization)
	}
}

func (c Agent) times(p *problems) {
	if c.Failure < 0 {
		p.addf("domain_failure", "must not be negative")
	}
	if c.Grace < 0 {
		p.addf("grace", "must not be negative")
	}
	r := c.Raft
	if r.Heartbeat < 5*time.Millisecond {
		p.addf("raft.heartbeat", "must be at least 5ms, is %s", r.Heartbeat)
	}
	if r.Election < r.Heartbeat {
		p.addf("raft.election", "must be at least raft.heartbeat (%s), is %s", r.Heartbeat, r.Election)
	}
	if r.LeaderLease < 5*time.Millisecond || r.LeaderLease > r.Heartbeat {
		p.addf("raft.leader_lease", "must be from 5ms to raft.heartbeat (%s), is %s", r.Heartbeat, r.LeaderLease)
	}
	if r.Commit < time.Millisecond {
		p.addf("raft.commit", "must be at least 1ms, is %s", r.Commit)
	}
	if r.LogWatchdog < 100*time.Millisecond {
		p.addf("raft.log_watchdog", "must be at least 100ms, is %s", r.LogWatchdog)
	}
	if r.Snapshot < 16 {
		p.addf("raft.snapshot_entries", "must be at least 16, is %d", r.Snapshot)
	}
}
