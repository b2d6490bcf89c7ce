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
}
