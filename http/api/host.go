package api

import "time"

// States of a host.
const (
	HostJoining        = "joining"
	HostUp             = "up"
	HostConnecting     = "connecting"            // does not answer, for less than the grace time; or answers again, and has to be well for a while
	HostNonResponsive  = "non_responsive"        // has not answered for longer; nothing proves that it is dead
	HostNonOperational = "non_operational"       // answers, but is not well, or cannot reach storage that others reach
	HostIsolated       = "isolated"              // does not answer, but renews its leases: its network is dead, its storage alive
	HostPreparing      = "preparing_maintenance" // the reason names what still has to leave it
	HostMaintenance    = "maintenance"           // out of use: no SPM, not fenced, missed by nobody
	HostFencing        = "fencing"               // being made unable to write
	HostRebooting      = "rebooting"             // switched on; not heard of yet
	HostDown           = "down"                  // proven to be unable to write, or off
)

// Kinds of witnesses of a host. They are kept apart: none of them speaks for another.
const (
	WitnessGossip = "gossip" // alive, failed or unknown; a hint only
	WitnessRPC    = "rpc"    // answers or silent
	WitnessLease  = "lease"  // live, fail, dead, free, unknown or unread, in the lockspace of the domain that is the subject
)

// Witness is what one source says about a host.
type Witness struct {
	Kind    string    `json:"kind"`
	Subject string    `json:"subject,omitempty"` // UUID of the domain of a lease
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
}

// HostWish is what somebody wants of a host.
type HostWish struct {
	Want   string    `json:"want"` // maintenance
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Time   time.Time `json:"time"`
}

// HostSet changes settings of a host. What is nil stays as it is.
type HostSet struct {
	Priority *int `json:"priority,omitempty"` // of the SPM role: -1 never, 10 first
}

// HostMaintain wants a host out of use.
type HostMaintain struct {
	Reason string `json:"reason,omitempty"`
	// Force takes your word that nothing uses the host any more; it is not asked.
	Force bool `json:"force,omitempty"`
	// WaitSeconds is how long to wait until it is in maintenance. The wish stays when it is not by then.
	WaitSeconds int `json:"wait_seconds,omitempty"`
}

// HostActivate wants a host back in use.
type HostActivate struct {
	Reason string `json:"reason,omitempty"`
	// WaitSeconds is how long to wait until it is up.
	WaitSeconds int `json:"wait_seconds,omitempty"`
}

// Kinds of watchdog of a host. With none, or while it is not known, the host is unprotected.
const (
	WatchdogDevice = "device"
	WatchdogWdmd   = "wdmd"
	WatchdogNone   = "none"
)

// HostConfirm is a person's word that a host was rebooted and writes nothing any more.
type HostConfirm struct {
	Reason string `json:"reason"`
	Force  bool   `json:"force,omitempty"` // although storage says that the host lives
}

// What became of a host's record in one lockspace.
const (
	SpaceFreed   = "freed"   // its leases there can be taken
	SpaceAlready = "already" // it had none
	SpaceChanged = "changed" // the record changed meanwhile: nothing was freed
	SpaceFailed  = "failed"  // could not be written; it is tried again
)

// HostConfirmed tells what followed from a HostConfirm.
type HostConfirmed struct {
	Host       string         `json:"host"`
	HostID     int            `json:"host_id"`
	Generation uint64         `json:"generation"`
	Reason     string         `json:"reason"`
	By         string         `json:"by"`
	Forced     bool           `json:"forced"`
	Lockspaces []SpaceOutcome `json:"lockspaces"`
}

// HostRemove takes a host out of the cluster that cannot leave by itself any more.
type HostRemove struct {
	Force  bool   `json:"force,omitempty"`  // although storage does not say that the host is dead
	Reason string `json:"reason,omitempty"` // how you know; needed with Force
}

// HostRemoved tells what followed from a HostRemove.
type HostRemoved struct {
	Host       string         `json:"host"`
	HostID     int            `json:"host_id"`
	Generation uint64         `json:"generation"`
	Evidence   string         `json:"evidence"` // that the host writes nothing any more
	By         string         `json:"by"`
	Forced     bool           `json:"forced"`
	Lockspaces []SpaceOutcome `json:"lockspaces"`
}

// SpaceOutcome is what became of the host's record in the lockspace of one domain.
type SpaceOutcome struct {
	Domain  string `json:"domain"`
	Result  string `json:"result"` // freed, already, changed or failed
	Message string `json:"message,omitempty"`
}

// Host is a machine that runs an agent.
type Host struct {
	Name   string    `json:"name"`
	HostID int       `json:"host_id"` // its slot in every lockspace, 1..249
	State  string    `json:"state"`
	Reason string    `json:"reason"` // why it is in this state
	Since  time.Time `json:"since"`
	// Deadline is when the state will be left by itself, or something is due; null: never. Wish is what somebody wants of the host;
	// null: nothing.
	Deadline   *time.Time `json:"deadline"`
	Wish       *HostWish  `json:"wish"`
	Witnesses  []Witness  `json:"witnesses"`
	Address    string     `json:"address"`        // cluster address, host:port
	Gossip     string     `json:"gossip_address"` // serf address, host:port
	HTTP       string     `json:"http"`           // base URL of its API
	Generation uint64     `json:"generation"`     // of its host id in the lockspace
	Priority   int        `json:"priority"`       // SPM priority; -1 never
	Alive      bool       `json:"alive"`          // gossip's opinion, a hint only
	SPM        bool       `json:"spm"`
	Leader     bool       `json:"leader"`
	Joined     time.Time  `json:"joined,omitzero"`
	// Watchdog is what resets the machine when its leases run out under somebody: device, wdmd or none; empty while the
	// host has not said. WatchdogTime is how long after that at the latest, in seconds.
	Watchdog     string `json:"watchdog,omitempty"`
	WatchdogTime int    `json:"watchdog_time,omitempty"`
	// Unprotected says that nothing does: what the host had on its way may land after its lease is dead.
	Unprotected bool `json:"unprotected"`
}
