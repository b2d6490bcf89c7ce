package startable

import "time"

// State is what a record in the lockspace says about its host id, in sanlock's words.
type State string

// States of a host id.
const (
	Unknown State = "UNKNOWN" // not watched for long enough to tell
	Free    State = "FREE"    // nobody has the host id
	Live    State = "LIVE"    // renewed lately
	Fail    State = "FAIL"    // its leases ran out, but it may still be running
	Dead    State = "DEAD"    // silent for longer than its leases and its watchdog last
)

// Resource is a lease as one look at the LUN found it.
type Resource struct {
	// Problem says why nobody can tell who has it; empty when it could be judged. Unreadable says that another host may be
	// able to read it, and nothing is wrong with it otherwise.
	Problem    string
	Unreadable bool
	// Holders have it: one alone, or several that share it. None: it is free.
	Holders []Holder
	// Former still stands in the record of a free lease: its host id left the lockspace, was freed there, or is a later
	// generation's. Nil when the lease was given back or never taken.
	Former *Holder
	// Last is who had a lease last that was given back; empty: nobody ever.
	Last string
}

// Holder is a host that has the lease, or had it.
type Holder struct {
	Host   string // its name; where it is no member "host id 7"
	HostID int
	// Generation is the one in which it took the lease, RecordGeneration the one of its host id's record now.
	Generation, RecordGeneration uint64
	State                        State
	// Silent is the time since its record was seen to change, DeadIn the time until DEAD if it stays silent.
	Silent, DeadIn time.Duration

	// Member: it belongs to the cluster. What follows is known of members only.
	Member bool
	// Protected: a watchdog resets its machine when its leases run out under somebody.
	Protected bool
	// Lost: the manager does not hear of it, neither by the network nor through the storage. Condition is what the manager finds
	// wrong with it, lost or not, in words such as "non_responsive: no answer"; empty: nothing.
	Lost      bool
	Condition string
	// Fencing says how far the fence operation is that is under way; empty: none is.
	Fencing string

	// Proof that it writes nothing any more, about exactly this generation; nil: there is none.
	Proof *Proof
}

// Proof is a recorded proof of a host's death.
type Proof struct {
	Kind, Evidence, By string
	Time               time.Time
	// Void: the record changed after the proof was made, so it says nothing.
	Void bool
}

// Policy is what the pool allows.
type Policy struct {
	// UnprotectedTakeover lets the death by the clock of an unprotected host count.
	UnprotectedTakeover bool
}

// Rule names the line of the table that applied. The words are stable: programs may compare them.
type Rule string

// Rules of an Answer.
const (
	RuleFree         Rule = "free"               // never taken, or given back
	RuleLeft         Rule = "holder_left"        // its host id is free
	RuleProven       Rule = "holder_proven_dead" // its host id was freed on a proof, or is DEAD and proven
	RuleCameBack     Rule = "holder_came_back"   // its host id is a later generation's
	RuleDead         Rule = "holder_dead"        // by the clock, and the watchdog has fired
	RuleUnprotected  Rule = "holder_unprotected" // silent or dead by the clock, which says nothing about its machine
	RuleProofPending Rule = "proof_pending"      // proven, its record is not free yet
	RuleFencing      Rule = "holder_fencing"     // being fenced
	RuleSilent       Rule = "holder_silent"      // FAIL
	RuleLost         Rule = "holder_lost"        // LIVE by its record, lost by the manager
	RuleAlive        Rule = "holder_alive"       // LIVE, and heard of
	RuleNotWatched   Rule = "not_watched"        // UNKNOWN
	RuleOldFree      Rule = "stale_free"         // free, but in a generation before the one that took the lease
	RuleDamaged      Rule = "damaged"            // the resource is damaged
	RuleUnreadable   Rule = "unreadable"         // this host cannot read it
)

// Answer says whether what the lease protects may be started on a host that has not got the lease.
type Answer struct {
	Startable bool
	Rule      Rule
	Why       string
	// Awaits is what must happen first, In how long that takes if its holder stays silent; 0: nobody can tell.
	Awaits string
	In     time.Duration
	// Host is the holder that the answer is about; empty: there is none.
	Host string
	// Proof is the recorded one that the answer rests on.
	Proof *Proof
	// NextStep is the next safe thing that a person can do.
	NextStep string
}
