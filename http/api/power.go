package api

import "time"

// Types of power devices.
const (
	PowerIPMI    = "ipmi"
	PowerRedfish = "redfish"
	PowerExec    = "exec"
	PowerProcess = "process"
	PowerNone    = "none"
)

// PowerDevice is a way to switch a host off and on. Its secret is never shown.
type PowerDevice struct {
	Host      string            `json:"host"`
	Name      string            `json:"name"`
	Type      string            `json:"type"`
	Order     int               `json:"order"` // lower ones are tried first; those of one order are a group
	Address   string            `json:"address,omitempty"`
	Port      int               `json:"port,omitempty"` // 0: the type's own
	User      string            `json:"user,omitempty"`
	HasSecret bool              `json:"has_secret"`
	Options   map[string]string `json:"options,omitempty"`
	Proxies   []string          `json:"proxies,omitempty"` // hosts to act through, in this order; none: any
	Disabled  bool              `json:"disabled"`
	Updated   time.Time         `json:"updated,omitzero"`
}

// PowerDeviceSet adds a power device or replaces it as a whole. Without a secret it keeps the one that it has, as long as neither
// its type, nor its address, port or user changes.
type PowerDeviceSet struct {
	Type     string            `json:"type"`
	Order    int               `json:"order,omitempty"`
	Address  string            `json:"address,omitempty"`
	Port     int               `json:"port,omitempty"`
	User     string            `json:"user,omitempty"`
	Secret   string            `json:"secret,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Proxies  []string          `json:"proxies,omitempty"`
	Disabled bool              `json:"disabled,omitempty"`
}

// Actions of a PowerOrder.
const (
	PowerFence   = "fence" // off, confirmed, as a proof of death; then on if the policy says so
	PowerOff     = "off"
	PowerOn      = "on"
	PowerRestart = "restart"
)

// PowerOrder is what a person wants done with a host's power.
type PowerOrder struct {
	Action string `json:"action"`
	Reason string `json:"reason,omitempty"`
	// Force acts although the host answers, renews its leases, was acted on a short time ago, or half the hosts are silent.
	Force bool `json:"force,omitempty"`
}

// PowerStatus is what the power devices of a host say.
type PowerStatus struct {
	Host   string       `json:"host"`
	State  string       `json:"state"` // on, off or unknown: the first clear answer
	Groups []PowerGroup `json:"groups"`
}

// PowerGroup is the answer of the devices of one order.
type PowerGroup struct {
	Order   int    `json:"order"`
	Devices string `json:"devices"`
	Through string `json:"through"` // the host that asked them
	State   string `json:"state"`
	Detail  string `json:"detail,omitempty"`
	Error   string `json:"error,omitempty"`
}

// PowerHealth tells which power actions would work now. Nothing was switched.
type PowerHealth struct {
	Host     string              `json:"host"`
	Through  string              `json:"through"`
	OffWorks bool                `json:"off_works"`
	OnWorks  bool                `json:"on_works"`
	Devices  []PowerDeviceHealth `json:"devices"`
}

// PowerDeviceHealth is one device of a PowerHealth.
type PowerDeviceHealth struct {
	Name  string  `json:"name"`
	Order int     `json:"order"`
	State string  `json:"state"`
	Works bool    `json:"works"`
	Error string  `json:"error,omitempty"`
	Took  float64 `json:"took_seconds"`
}

// FenceOp is a committed operation on a host's power with every step of it.
type FenceOp struct {
	ID         string      `json:"id"`
	Host       string      `json:"host"`
	HostID     int         `json:"host_id"`
	Generation uint64      `json:"generation"`
	Action     string      `json:"action"`
	Reason     string      `json:"reason,omitempty"`
	By         string      `json:"by"`
	ByPerson   bool        `json:"by_person"`
	Began      time.Time   `json:"began"`
	Ended      time.Time   `json:"ended,omitzero"`
	Outcome    string      `json:"outcome,omitempty"` // done, failed, abandoned or skipped; empty while it goes on
	Detail     string      `json:"detail,omitempty"`
	Leader     string      `json:"leader,omitempty"`
	Term       uint64      `json:"term"`
	Proven     bool        `json:"proven"` // a proof of the host's death came of it
	Steps      []FenceStep `json:"steps"`
}

// FenceStep is one step of a FenceOp.
type FenceStep struct {
	Rung     string    `json:"rung"`
	Device   string    `json:"device,omitempty"`
	Through  string    `json:"through,omitempty"`
	Term     uint64    `json:"term"`
	Leader   string    `json:"leader,omitempty"`
	Time     time.Time `json:"time"`
	Result   string    `json:"result"` // intent, ok, failed, unknown or skipped
	Evidence string    `json:"evidence,omitempty"`
}

// Fencing is how silent hosts are fenced.
type Fencing struct {
	Enabled        bool      `json:"enabled"`
	GraceSeconds   float64   `json:"grace_seconds"`
	QuietSeconds   float64   `json:"quiet_seconds"`
	SkipIfLive     bool      `json:"skip_if_live"`
	SkipIfHalfDead bool      `json:"skip_if_half_dead"`
	Restart        bool      `json:"restart"` // a host that was fenced is switched on again
	Armed          bool      `json:"armed"`
	DisarmedUntil  time.Time `json:"disarmed_until,omitzero"`
	DisarmedBy     string    `json:"disarmed_by,omitempty"`
	Open           []FenceOp `json:"open"` // operations that are under way
}

// FencingSet changes what it names. Durations of 0 take the profile's own again.
type FencingSet struct {
	Enabled        *bool    `json:"enabled,omitempty"`
	GraceSeconds   *float64 `json:"grace_seconds,omitempty"`
	QuietSeconds   *float64 `json:"quiet_seconds,omitempty"`
	SkipIfLive     *bool    `json:"skip_if_live,omitempty"`
	SkipIfHalfDead *bool    `json:"skip_if_half_dead,omitempty"`
	Restart        *bool    `json:"restart,omitempty"`
}

// FencingDisarm forbids fencing without a person for a while.
type FencingDisarm struct {
	ForSeconds float64 `json:"for_seconds"`
	Reason     string  `json:"reason"`
}

// Powersave is the policy that switches spare hosts off.
type Powersave struct {
	Enabled     bool    `json:"enabled"`
	Reserve     int     `json:"reserve"` // spare hosts that stay up
	IdleSeconds float64 `json:"idle_seconds"`
}

// PowersaveSet changes what it names. An idle time of 0 takes the default again.
type PowersaveSet struct {
	Enabled     *bool    `json:"enabled,omitempty"`
	Reserve     *int     `json:"reserve,omitempty"`
	IdleSeconds *float64 `json:"idle_seconds,omitempty"`
}
