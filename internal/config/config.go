// Package config is the configuration file of an agent.
//
// The struct tags are the documentation: Print writes the default file from them, so that what is documented, what is
// the default and what is understood cannot drift apart. Unknown keys are refused.
package config

import (
	"time"
)

// Agent is the configuration of `holdfast agent`.
type Agent struct {
	Name       string   `yaml:"name" doc:"Name of this host in the cluster: letters, digits, - and . ; unique, and never changed later. Empty takes the machine's host name."`
	DataDir    string   `yaml:"data_dir" doc:"Directory for Raft's log, certificates and the keeper's files. It must be on a local disk, never on a shared LUN, and belongs to one agent."`
	Profile    string   `yaml:"profile" doc:"Lease timing of a pool that is made on this host: compatible (I/O timeout 10 s, watchdog 60 s; works beside sanlock), fast (2 s, 10 s), dev (1 s, 2 s; for holdfast dev only). An existing pool keeps its own."`
	UnixSocket string   `yaml:"unix_socket" doc:"Path of the API's socket for local root; at most 107 bytes."`
	Cluster    Endpoint `yaml:"cluster" doc:"The cluster's TLS port: Raft, calls between hosts and forwarded requests."`
	Gossip     Endpoint `yaml:"gossip" doc:"The gossip port, UDP and TCP, encrypted with the cluster's key."`
	HTTP       HTTP     `yaml:"http" doc:"The API for programs and people on other machines."`
	Devices    []string `yaml:"devices" doc:"LUNs that may be used for storage domains: paths of block devices or files, nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH. Shell patterns are allowed in paths. Empty allows what an administrator names."`
	Fencing    Fencing  `yaml:"fencing" doc:"How the power of the other hosts is switched."`
	Watchdog   string   `yaml:"watchdog" doc:"What resets this machine when users of a lease outlive it: auto (wdmd if its socket /run/wdmd/wdmd.sock is there, else /dev/watchdog if that is there, else none), device:PATH, wdmd:PATH or none. One that is named must fire after exactly the pool's watchdog time, or the host does not join; auto runs without it then, and the host counts as unprotected."`
	Takeover   string   `yaml:"unprotected_takeover" doc:"Whether the SPM role is taken from a host that has no watchdog (see above) once its lease is dead: wait (for a proof: fencing, or holdfast host confirm-rebooted) or allow. Allow only where something else surely stops such a host, for it may still have writes on their way. Empty takes the profile's: wait, and allow with dev, where the supervisor is the watchdog. All hosts should have the same."`
	Grace      Duration `yaml:"grace" doc:"How long a host may be silent before anything follows from it (duration). 0s takes the profile's own."`
	Failure    Duration `yaml:"domain_failure" doc:"How long hosts must fail to reach a domain before it, or those that others do not share the trouble with, count as failed (duration). 0s takes the profile's own: 5m with compatible, 15s with fast, 6s with dev. All hosts should have the same, since whoever leads goes by its own."`
	Growth     Growth   `yaml:"growth" doc:"How thin volumes that are attached on this host grow."`
	Raft       Raft     `yaml:"raft" doc:"Times of Raft. All hosts should have the same."`
	Log        Log      `yaml:"log" doc:"Logging, to standard error."`
	Dev        bool     `yaml:"dev" doc:"Serve the API as plain HTTP without authentication; refused on any address but loopback. Set by holdfast dev."`
}

// Duration is a time.Duration that is written as 300ms in YAML.
type Duration = time.Duration

// Endpoint is an address to listen on and the one that others use.
type Endpoint struct {
	Listen    string `yaml:"listen" doc:"Address and port to listen on."`
	Advertise string `yaml:"advertise" doc:"Address and port that other hosts reach this one at. Empty takes the listening address, or with 0.0.0.0 the address of the machine's default route."`
}

// HTTP is the API's TLS listener.
type HTTP struct {
	Listen    string `yaml:"listen" doc:"Address and port to listen on. Empty serves the unix socket only."`
	Advertise string `yaml:"advertise" doc:"Address and port shown to clients. Empty as above."`
	CertFile  string `yaml:"cert_file" doc:"PEM file with a certificate chain of your own. Empty uses the certificate that the cluster's CA gave this host."`
	KeyFile   string `yaml:"key_file" doc:"PEM file with the key of cert_file."`
}

// Fencing chooses a fence agent.
type Fencing struct {
	Agent  string   `yaml:"agent" doc:"none or process. process asks the supervisor of holdfast dev."`
	Socket string   `yaml:"socket" doc:"Path of the supervisor's socket, for the agent process."`
	Wait   Duration `yaml:"timeout" doc:"How long one power action may take (duration)."`
}

// Growth is when and by how much attached thin volumes are extended.
type Growth struct {
	Chunk       int64 `yaml:"chunk" doc:"By how much a volume grows at least, in bytes (1 MiB to 1 TiB)."`
	Utilization int   `yaml:"utilization" doc:"How much of a chunk may be used before the next is asked for, in percent (0 to 99): with 20 and chunks of 2.5 GiB, when less than 2 GiB are free. With a high one fast writers wait for each extension."`
}

// Raft holds Raft's times.
type Raft struct {
	Heartbeat   Duration `yaml:"heartbeat" doc:"A follower that hears nothing for this long starts an election (duration, at least 5ms)."`
	Election    Duration `yaml:"election" doc:"A candidate that is not elected for this long tries again (duration, at least heartbeat)."`
	LeaderLease Duration `yaml:"leader_lease" doc:"A leader that reaches no majority for this long steps down (duration, at most heartbeat)."`
	Commit      Duration `yaml:"commit" doc:"Longest time between two messages to a follower that is up to date (duration)."`
	LogWatchdog Duration `yaml:"log_watchdog" doc:"A leader whose log disk does not answer for this long steps down (duration)."`
	Snapshot    uint64   `yaml:"snapshot_entries" doc:"Log entries between two snapshots (count)."`
}

// Log configures logging.
type Log struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error."`
	Format string `yaml:"format" doc:"text or json."`
}

// Default returns the configuration that a file without keys gives.
func Default() Agent {
	return Agent{
		DataDir:    "/var/lib/holdfast",
		Profile:    "compatible",
		UnixSocket: "/run/holdfast/api.sock",
		Cluster:    Endpoint{Listen: "0.0.0.0:7420"},
		Gossip:     Endpoint{Listen: "0.0.0.0:7421"},
		HTTP:       HTTP{Listen: "0.0.0.0:7422"},
		Devices:    []string{},
		Fencing:    Fencing{Agent: "none", Wait: 30 * time.Second},
		Watchdog:   "auto",
		Growth:     Growth{Chunk: 2560 << 20, Utilization: 20},
		Raft: Raft{
			Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, LeaderLease: 150 * time.Millisecond,
			Commit: 10 * time.Millisecond, LogWatchdog: 2 * time.Second, Snapshot: 8192,
		},
		Log: Log{Level: "info", Format: "text"},
	}
}
