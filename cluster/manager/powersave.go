package manager

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// SaveAction is what the power-saving policy does in one round; one at most.
type SaveAction string

// Values of SaveAction.
const (
	SaveNothing  SaveAction = ""
	SaveLook     SaveAction = "look"     // whether its power devices work
	SaveMaintain SaveAction = "maintain" // wish it into maintenance
	SaveOff      SaveAction = "off"
	SaveOn       SaveAction = "on"
	SaveActivate SaveAction = "activate" // take the wish back
)

// SaveHost is what the policy knows of one host.
type SaveHost struct {
	Name  string
	State string
	Wish  fsm.Wish

	Wished time.Duration // since the wish

	Reachable bool
	Power     Power
	Empty     time.Duration // it has said for so long that it uses nothing; 0: it uses something, or does not say
	Kept      string        // why it is never taken, besides what follows; empty: it may be
	Voter     bool
	Acting    bool // an operation on its power is under way
	Recent    bool // its power was acted on a short time ago

	HealthKnown, Healthy bool // off and on would work, as somebody looked a short time ago
}

// ours tells whether the policy itself wants the host out of use.
func (h *SaveHost) ours() bool {
	return h.Wish.Want == fsm.WishMaintenance && h.Wish.By == fsm.WishByPolicy
}

// spare tells whether a host that is up is used by nobody.
func (h *SaveHost) spare() bool {
	return h.State == fsm.HostUp && h.Reachable && h.Wish.Want == "" && h.Empty > 0 && h.Kept == ""
}

// Saved is what the policy decides.
type Saved struct {
	Action SaveAction
	Host   string
	Reason string
}

// DecideSave is the power-saving policy. Pure. One host is moved at a time, and brought back before another one is taken.
func DecideSave(p Powersave, hosts []SaveHost) Saved {
	hosts = slices.Clone(hosts)
	slices.SortFunc(hosts, func(a, b SaveHost) int { return cmp.Compare(a.Name, b.Name) })
	spare := 0
	for i := range hosts {
		h := &hosts[i]
		if h.ours() && h.State == fsm.HostPreparing && h.Wished > maxPreparing {
			return Saved{SaveActivate, h.Name, "something uses it after all"}
		}
		if h.Acting || h.ours() && moving(h) {
			return Saved{Reason: "waits for " + h.Name + ", which is " + h.State}
		}
		if h.spare() {
			spare++
		}
	}
	switch {
	case !p.Enabled:
		return bringBack(hosts, "power saving is switched off")
	case spare < p.Reserve:
		return bringBack(hosts, fmt.Sprintf("%d hosts are spare, %d are wanted in reserve", spare, p.Reserve))
	}
	for i := range hosts {
		if h := &hosts[i]; h.ours() && h.State == fsm.HostMaintenance && h.Reachable {
			return switchSpareOff(h)
		}
	}
	if spare == p.Reserve {
		return Saved{Reason: fmt.Sprintf("%d hosts are spare, as many as wanted in reserve", spare)}
	}
	return takeOne(p, hosts, spare)
}

// maxPreparing is how long a host that the policy has taken may be on its way to maintenance: it was thought to be empty.
const maxPreparing = time.Minute

// moving tells whether a host is on its way from one state to another.
func moving(h *SaveHost) bool {
	switch h.State {
	case fsm.HostPreparing, fsm.HostRebooting, fsm.HostFencing, fsm.HostConnecting, fsm.HostUp:
		return true
	}
	return false
}

// bringBack takes one host that the policy has taken into use again: one that is on before one that is off.
func bringBack(hosts []SaveHost, why string) Saved {
	for i := range hosts {
		if h := &hosts[i]; h.ours() && h.Reachable {
			return Saved{SaveActivate, h.Name, why}
		}
	}
	for i := range hosts {
		if h := &hosts[i]; h.ours() && !h.Reachable && h.Power == PowerOff && !h.Recent {
			return Saved{SaveOn, h.Name, why}
		}
	}
	return Saved{Reason: why}
}

// switchSpareOff goes on with a host that the policy has in maintenance.
func switchSpareOff(h *SaveHost) Saved {
	switch {
	case h.Recent:
		return Saved{Reason: h.Name + "'s power was acted on a short time ago"}
	case !h.HealthKnown:
		return Saved{SaveLook, h.Name, "before it is switched off its power devices must be known to work"}
	case !h.Healthy:
		return Saved{SaveActivate, h.Name, "its power devices do not work: what is switched off could not be switched on again"}
	}
	return Saved{SaveOff, h.Name, "it is empty and not needed"}
}

// takeOne chooses a host to be put into maintenance.
func takeOne(p Powersave, hosts []SaveHost, spare int) Saved {
	for i := range slices.Backward(hosts) {
		h := &hosts[i]
		switch {
		case !h.spare() || h.Empty < p.Idle || !majorityWithout(hosts, h.Name):
		case !h.HealthKnown:
			return Saved{SaveLook, h.Name, "before it is taken its power devices must be known to work"}
		case h.Healthy:
			return Saved{SaveMaintain, h.Name, fmt.Sprintf("it has been empty for %s, and %d hosts are spare with %d wanted in reserve", p.Idle, spare, p.Reserve)}
		}
	}
	return Saved{Reason: "no host can be taken"}
}

// majorityWithout tells whether Raft's voters that answer are a majority without this host, and still are when one more fails.
func majorityWithout(hosts []SaveHost, name string) bool {
	voters, left := 0, 0
	for i := range hosts {
		h := &hosts[i]
		if !h.Voter {
			continue
		}
		voters++
		if h.Reachable && h.Name != name {
			left++
		}
	}
	return 2*(left-1) > voters
}
