package api

import "time"

// States of the SPM role.
const (
	SPMNone     = "none"
	SPMStarting = "starting"
	SPMServing  = "serving"
	SPMStopping = "stopping"
)

// SPM says who may write.
type SPM struct {
	Host    string    `json:"host"`
	HostID  int       `json:"host_id"`
	Epoch   uint64    `json:"epoch"`
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
	Reason  string    `json:"reason,omitempty"`
	Desired string    `json:"desired"` // any, host:NAME or stopped
}

// SPMMove asks for the role to move.
type SPMMove struct {
	To     string `json:"to,omitempty"` // host name; empty lets the manager choose another host
	Reason string `json:"reason,omitempty"`
}

// SPMStop asks for the role to be held by nobody until SPMStart.
type SPMStop struct {
	Reason string `json:"reason,omitempty"`
}

// SPMStart takes an SPMStop back.
type SPMStart struct {
	To string `json:"to,omitempty"` // host name; empty lets the manager choose
}
