package api

// LeaseFor says on whose behalf a host is to hold a lease. Without processes its agent holds it, until it is released
// or the agent ends.
type LeaseFor struct {
	// VM is a name for people: who the lease is for.
	VM string `json:"vm,omitempty"`
	// Processes on the very host that is asked. The lease is freed as soon as the last has ended; when the first one
	// ends, the others are killed. When the lease is lost, they get SIGTERM, later SIGKILL.
	Processes []LeaseProcess `json:"processes,omitempty"`
}

// LeaseProcess names a running process.
type LeaseProcess struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat: a number that was given out again is refused.
	StartTime uint64 `json:"start_time,omitempty"`
}

// LeaseHeld is the answer to an acquire: this host has the lease.
type LeaseHeld struct {
	ID      string `json:"id"`
	Domain  string `json:"domain"`
	Host    string `json:"host"`
	Version uint64 `json:"version"` // grows by one at every change of hands: a fencing token
	LeaseFor
}

// LeaseReleased is the answer to a release.
type LeaseReleased struct {
	ID     string `json:"id"`
	Domain string `json:"domain"`
	Host   string `json:"host"`
}
