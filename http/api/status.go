package api

import "time"

// Status is the whole pool on one screen.
type Status struct {
	Host     string    `json:"host"`    // the host that answered
	Version  string    `json:"version"` // its program version
	Member   bool      `json:"member"`  // false: the host has neither made nor joined a cluster
	Pool     Pool      `json:"pool"`
	SPM      SPM       `json:"spm"`
	Raft     Raft      `json:"raft"`
	Hosts    []Host    `json:"hosts"`
	Domains  []Domain  `json:"domains"`
	Volumes  int       `json:"volumes"`  // number of volumes in the mirror
	Warnings []Warning `json:"warnings"` // what is not well, the worst first
	Time     time.Time `json:"time"`
}

// Pool names the pool.
type Pool struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Master  string    `json:"master"`  // UUID of the master domain; empty before the first domain
	Profile string    `json:"profile"` // compatible, fast or dev
	Created time.Time `json:"created,omitzero"`
	// TestPool says that the pool was made for tests: holdfast nemesis may hurt it.
	TestPool bool `json:"test_pool"`
}

// Raft is the state of the cluster as one host sees it.
type Raft struct {
	Leader string `json:"leader"` // empty: none known
	State  string `json:"state"`  // leader, follower, candidate, shutdown
	Term   uint64 `json:"term"`
	Index  uint64 `json:"index"` // last entry applied to this host's mirror
	Voters int    `json:"voters"`
	Quorum bool   `json:"quorum"` // a leader is known, or this host is it
}

// Severities of warnings, findings and events.
const (
	SeverityInfo    = "info"
	SeverityWarning = "warning"
	SeverityError   = "error"
)

// Warning is one thing that is not well, why, and what to do.
type Warning struct {
	Severity string `json:"severity"`
	Subject  string `json:"subject"` // host/NAME, domain/NAME, spm, raft
	Message  string `json:"message"`
	NextStep string `json:"next_step,omitempty"`
}

// Health is the answer of /healthz.
type Health struct {
	OK     bool   `json:"ok"`
	Host   string `json:"host"`
	Member bool   `json:"member"`
	Reason string `json:"reason,omitempty"` // why it is not ok
}
