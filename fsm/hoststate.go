package fsm

import (
	"cmp"
	"slices"
)

// States of a host, as the manager records them.
const (
	HostJoining        = "joining"
	HostUp             = "up"
	HostConnecting     = "connecting"            // silent, for less than the grace time
	HostNonResponsive  = "non_responsive"        // silent for longer; nothing is proven
	HostNonOperational = "non_operational"       // it answers, but cannot reach storage that others reach, or is not well
	HostIsolated       = "isolated"              // its network is dead, its storage is alive
	HostPreparing      = "preparing_maintenance" // something still has to leave it
	HostMaintenance    = "maintenance"
	HostFencing        = "fencing"   // being made unable to write
	HostRebooting      = "rebooting" // told to start; not heard of yet
	HostDown           = "down"      // proven to be unable to write, or off

	// HostFenced is what programs of before the states above wrote. It means HostDown; nothing should write it any more.
	HostFenced = "fenced"
)

// hostUnresponsive is an older program's name of HostNonResponsive.
const hostUnresponsive = "unresponsive"

// CurrentState is the host's state in today's words, whatever program recorded it.
func (h Host) CurrentState() string {
	switch h.State {
	case HostFenced:
		return HostDown
	case hostUnresponsive:
		return HostNonResponsive
	}
	return h.State
}

// Kinds of witnesses.
const (
	WitnessGossip = "gossip"
	WitnessRPC    = "rpc"
	WitnessLease  = "lease" // its Subject is the domain's id
)

// Witness is what one source says about a host. Only its changes are recorded, never its age.
type Witness struct {
	Kind    string `codec:"k" json:"kind"`
	Subject string `codec:"u,omitempty" json:"subject,omitempty"`
	State   string `codec:"s" json:"state"`
	Detail  string `codec:"d,omitempty" json:"detail,omitempty"`
	Since   int64  `codec:"t" json:"since"`
}

// maxWitnesses bounds the witnesses of one host: gossip, RPC and the leases of 254 domains.
const maxWitnesses = 256

// witnesses is in as it is recorded: one of each kind and subject (the last one given), sorted, bounded.
func witnesses(in []Witness) []Witness {
	out := slices.Clone(in)
	slices.Reverse(out) // the last one given comes first, and stays
	byName := func(a, b Witness) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject))
	}
	slices.SortStableFunc(out, byName)
	out = slices.CompactFunc(out, func(a, b Witness) bool { return byName(a, b) == 0 })
	out = out[:min(len(out), maxWitnesses)]
	for i, w := range out {
		out[i].Kind, out[i].Subject = cut(w.Kind, maxName), cut(w.Subject, maxName)
		out[i].State, out[i].Detail = cut(w.State, maxName), cut(w.Detail, MaxReason)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
