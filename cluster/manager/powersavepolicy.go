package manager

import (
	"strconv"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Powersave is the policy that switches spare hosts off.
type Powersave struct {
	Enabled bool
	Reserve int           // spare hosts that stay up
	Idle    time.Duration // that a host must have been empty
}

// DefaultIdle is how long a host must have been empty before the power-saving policy takes it, unless it is set.
const DefaultIdle = 20 * time.Minute

// PowersaveOf reads the policy from the cluster's configuration; what cannot be read is as it is by default.
func PowersaveOf(view *fsm.State) Powersave {
	get := func(key string) string { v, _ := view.Config.Get(key); return v }
	p := Powersave{Idle: DefaultIdle}
	p.Enabled, _ = strconv.ParseBool(get(fsm.ConfigPowersave))
	if n, err := strconv.Atoi(get(fsm.ConfigPowersaveSpare)); err == nil && n >= 0 {
		p.Reserve = n
	}
	if d, err := time.ParseDuration(get(fsm.ConfigPowersaveIdle)); err == nil && d > 0 {
		p.Idle = d
	}
	return p
}
