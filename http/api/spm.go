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
	// Explained is the manager's own view; nil where only the mirror is shown.
	Explained *SPMExplained `json:"explained,omitempty"`
}

// SPMExplained says why the role is where it is, who would have it next, and what is awaited.
type SPMExplained struct {
	// Leader is the host whose manager says this. Empty: no manager could be asked, and why and awaits say what is known here.
	Leader string    `json:"leader,omitempty"`
	At     time.Time `json:"at"`
	Row    string    `json:"row,omitempty"` // of the decision table
	Why    string    `json:"why"`
	// Chosen is why the role went where it is, as it was said then.
	Chosen string `json:"chosen,omitempty"`
	Awaits string `json:"awaits,omitempty"`
	// InSeconds is the countdown of Awaits; 0: not known.
	InSeconds float64 `json:"in_seconds,omitempty"`
	// Next are the other hosts, the one first that would have the role next.
	Next []SPMHeir `json:"next"`
	// Moves says what would make the role move.
	Moves []string `json:"moves"`
}

// SPMHeir is a host that could have the role, or cannot now.
type SPMHeir struct {
	Host      string  `json:"host"`
	Able      bool    `json:"able"`
	Why       string  `json:"why"`                  // what speaks for it, or why it cannot
	InSeconds float64 `json:"in_seconds,omitempty"` // until it is asked again
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
