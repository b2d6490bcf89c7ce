package api

import "time"

// States of a host.
const (
	HostUp           = "up"
	HostJoining      = "joining"
	HostConnecting   = "connecting"   // not heard from lately
	HostUnresponsive = "unresponsive" // not heard from for longer than the grace time
	HostFencing      = "fencing"
	HostFenced       = "fenced" // proven unable to write
	HostDown         = "down"
	HostMaintenance  = "maintenance"
)

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
	Name       string    `json:"name"`
	HostID     int       `json:"host_id"` // its slot in every lockspace, 1..249
	State      string    `json:"state"`
	Reason     string    `json:"reason,omitempty"` // why it is in this state
	Since      time.Time `json:"since"`
	Address    string    `json:"address"`        // cluster address, host:port
	Gossip     string    `json:"gossip_address"` // serf address, host:port
	HTTP       string    `json:"http"`           // base URL of its API
	Generation uint64    `json:"generation"`     // of its host id in the lockspace
	Priority   int       `json:"priority"`       // SPM priority; -1 never
	Alive      bool      `json:"alive"`          // gossip's opinion, a hint only
	SPM        bool      `json:"spm"`
	Leader     bool      `json:"leader"`
	Joined     time.Time `json:"joined,omitzero"`
	// Watchdog is what resets the machine when its leases run out under somebody: device, wdmd or none; empty while the
	// host has not said. WatchdogTime is how long after that at the latest, in seconds.
	Watchdog     string `json:"watchdog,omitempty"`
	WatchdogTime int    `json:"watchdog_time,omitempty"`
	// Unprotected says that nothing does: what the host had on its way may land after its lease is dead.
	Unprotected bool `json:"unprotected"`
}
