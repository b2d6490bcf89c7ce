package api

// MasterSet makes a domain the pool's master.
type MasterSet struct {
	Reason string `json:"reason,omitempty"` // for the pool's history
}

// MasterChanged is the answer to a MasterSet.
type MasterChanged struct {
	Master   string `json:"master"`           // UUID
	Former   string `json:"former,omitempty"` // UUID of the last master; empty: the domain was the master already
	Version  int    `json:"version"`          // of the master; grows with each change
	Epoch    uint64 `json:"epoch"`
	Mirrored bool   `json:"mirrored"` // false: on disk, but Raft has not taken the entry yet; until then both leases are held
	Index    uint64 `json:"index"`    // Raft index of the entry; 0 when not mirrored
	TookMS   int64  `json:"took_ms"`  // for which no change of any volume was carried out
}

// MasterReconstruct makes a domain the pool's master in the place of one that is lost for good.
type MasterReconstruct struct {
	Reason string `json:"reason"` // for the pool's history
	// Force takes the word of whoever asks that the hosts in Dead write nothing any more, although nothing proves it.
	Force bool     `json:"force,omitempty"`
	Dead  []string `json:"dead,omitempty"`
}

// MasterReconstructed tells what a MasterReconstruct was based on.
type MasterReconstructed struct {
	Master   string        `json:"master"`
	Former   string        `json:"former"`
	Version  int           `json:"version"`
	Promised []string      `json:"promised"` // hosts that answer, and gave their word not to write under the lost master
	Proofs   []MasterProof `json:"proofs"`   // of the others
}

// MasterProof is why a host that does not answer cannot write under the lost master.
type MasterProof struct {
	Host     string `json:"host"`
	Kind     string `json:"kind"` // dead, person
	Evidence string `json:"evidence"`
}
