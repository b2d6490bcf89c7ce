package api

import "time"

// States of a lease.
const (
	LeaseFree      = "FREE"
	LeaseExclusive = "EXCLUSIVE"
	LeaseShared    = "SHARED"
	// LeaseDamaged: the index has it, its resource does not fit. Nobody can take it before the index is rebuilt.
	LeaseDamaged = "DAMAGED"
	// LeaseUnreadable: the host that was asked could not read the resource; another one may. Nothing is wrong with it otherwise.
	LeaseUnreadable = "UNREADABLE"
)

// Lease is a lease of a VM or job, which belongs to no volume.
type Lease struct {
	ID     string `json:"id"`     // UUID
	Domain string `json:"domain"` // UUID
	Status string `json:"status"`
	// Holder is the host that has it; of several that share it the first of Sharers. Empty when it is free.
	Holder string `json:"holder"`
	HostID int    `json:"host_id"`
	// HolderState is what its record in the lockspace says: LIVE, FAIL, DEAD or UNKNOWN.
	HolderState string `json:"holder_state,omitempty"`
	// Generation is the holder's, or the last holder's.
	Generation uint64 `json:"generation"`
	// LastHolder had a free lease last.
	LastHolder string `json:"last_holder,omitempty"`
	// Version grows by one at every change of hands.
	Version uint64 `json:"version"`
	// Offset is where its resource lies in the volume xleases, in bytes.
	Offset int64 `json:"offset"`
	// Age is how long the holder has had it, in seconds.
	Age float64 `json:"age_seconds,omitempty"`
	// Takeable says that it could be had now without waiting.
	Takeable bool `json:"takeable"`
	// Reason says why it cannot be had, or why it can although it has a holder.
	Reason string `json:"reason,omitempty"`
	// FreeIn is the time in seconds until it could be had if its holder stays silent; left out when the holder is alive.
	FreeIn  float64       `json:"free_in_seconds,omitempty"`
	Sharers []LeaseHolder `json:"sharers,omitempty"`
	// Start says whether what the lease protects may be started on another host. It is more careful than Takeable, which is
	// the storage's answer alone. Nil from hosts that do not know the question.
	Start *LeaseStart `json:"start,omitempty"`
}

// Rules of a LeaseStart: the line of the table in docs/API.md that applied.
const (
	StartFree         = "free"
	StartLeft         = "holder_left"
	StartProven       = "holder_proven_dead"
	StartCameBack     = "holder_came_back"
	StartDead         = "holder_dead"
	StartUnprotected  = "holder_unprotected"
	StartProofPending = "proof_pending"
	StartFencing      = "holder_fencing"
	StartSilent       = "holder_silent"
	StartLost         = "holder_lost"
	StartAlive        = "holder_alive"
	StartNotWatched   = "not_watched"
	StartOldFree      = "stale_free"
	StartDamaged      = "damaged"
	StartUnreadable   = "unreadable"
)

// LeaseStart answers whether what a lease protects, a VM, may be started elsewhere, and if not, when and why.
type LeaseStart struct {
	Startable bool   `json:"startable"`
	Rule      string `json:"rule"` // why, for programs
	Why       string `json:"why"`  // why, for people
	// Awaits is what must happen first, In how many seconds that takes if the holder stays silent; left out when nobody can tell.
	Awaits string  `json:"awaits,omitempty"`
	In     float64 `json:"in_seconds,omitempty"`
	// Host is the holder, or former holder, that the answer is about.
	Host string `json:"host,omitempty"`
	// Proof is the recorded proof of that host's death that the answer rests on.
	Proof    *LeaseProof `json:"proof,omitempty"`
	NextStep string      `json:"next_step,omitempty"`
}

// LeaseProof is recorded evidence that the holder of a lease writes nothing any more.
type LeaseProof struct {
	Kind     string    `json:"kind"` // released, dead, power_off, exit or person
	Evidence string    `json:"evidence,omitempty"`
	By       string    `json:"by,omitempty"`
	Time     time.Time `json:"time"`
}

// LeaseHolder is one of the hosts that share a lease.
type LeaseHolder struct {
	Host       string `json:"host"`
	HostID     int    `json:"host_id"`
	Generation uint64 `json:"generation"`
	State      string `json:"state"`
}

// LeaseCreate asks for a new lease.
type LeaseCreate struct {
	ID string `json:"id"` // UUID
}

// LeaseCreated is the answer to LeaseCreate. The same id again gives the same lease.
type LeaseCreated struct {
	ID      string `json:"id"`
	Domain  string `json:"domain"`
	Offset  int64  `json:"offset"`
	Created bool   `json:"created"` // false: it was there
	Epoch   uint64 `json:"epoch"`
}

// LeaseDeleted is the answer to a delete. Deleting what is not there succeeds.
type LeaseDeleted struct {
	ID      string `json:"id"`
	Domain  string `json:"domain"`
	Deleted bool   `json:"deleted"` // false: it was not there
	Epoch   uint64 `json:"epoch"`
}

// LeaseRebuild asks for the index of a domain's leases to be rebuilt.
type LeaseRebuild struct {
	// Force rebuilds although leases are held or damaged, or the index has no head that could be read.
	Force bool `json:"force,omitempty"`
}

// LeaseRebuilt says what a rebuild changed.
type LeaseRebuilt struct {
	Domain    string   `json:"domain"`
	Leases    int      `json:"leases"`    // in the index now
	Written   []string `json:"written"`   // their resource was missing or another's
	Recovered []string `json:"recovered"` // their record could not be read and was made from the resource
	Freed     int      `json:"freed"`     // records that could not be read, or were there twice
	Cleared   int      `json:"cleared"`   // resources without a record
	Epoch     uint64   `json:"epoch"`
}
