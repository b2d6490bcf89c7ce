package manager

import (
	"slices"
	"time"
)

// Liveness is what the lockspace of the master says about a host id, merged over all witnesses.
type Liveness string

// Values of Liveness. The liveliest answer of any witness counts.
const (
	Unseen  Liveness = ""        // no witness could read the lockspace
	Unknown Liveness = "UNKNOWN" // not watched for long enough to tell
	Free    Liveness = "FREE"    // left the lockspace cleanly, or was freed after a proof
	Live    Liveness = "LIVE"    // renewed lately
	Fail    Liveness = "FAIL"    // renewals stopped; its watchdog may still have to fire
	Dead    Liveness = "DEAD"    // cannot be running: lease life and watchdog time have both passed
)

// Power is what a host's fence agent said last; only asked while the host does not answer.
type Power string

// Values of Power.
const (
	PowerUnknown Power = ""
	PowerOn      Power = "on"
	PowerOff     Power = "off"
)

// Role is a host's own answer to "are you the SPM?".
type Role struct {
	State string // none, starting, serving, stopping
	Epoch uint64
}

// Host is what the manager knows about one member at one moment.
type Host struct {
	Name     string
	HostID   int
	Priority int // higher first; -1 never

	Reachable bool          // the last ping was answered in time
	LostFor   time.Duration // since the last answer, or since the term began; 0 while reachable
	Answered  bool          // answered at least once in this term
	Unasked   bool          // no ping of this term has ended yet: its silence says nothing
	// SilentFor is LostFor, or longer as far as it is committed that former leaders did not hear it either, by their clocks. It says how
	// long a host was left alone; that it is silent is only ever said by LostFor.
	SilentFor time.Duration

	Maintenance bool // out of use: no candidate, not fenced
	Leaving     bool // on its way there: gives the role up as soon as another host can take it
	Doomed      bool // a person has it switched off although it answers: the same, for a short time
	Role        Role
	RoleFor     time.Duration // how long it has answered with this role
	KeeperOK    bool          // its keeper runs and renews
	MasterValid bool          // it can read the master domain
	MasterOwed  bool          // the master has changed, and its last answer is still about the former one
	Renewals    string        // how they go in the master's lockspace, by its own word

	Reports bool     // it says which domains it reaches
	Reach   int      // active domains that it reaches
	Misses  []string // names of the active domains that it does not reach

	Uses int // volumes attached and leases held, by its last answer; 0 too when it has not said

	RTT time.Duration // of its pings, smoothed; 0 unknown

	Fenceable bool          // a fence agent is configured
	FenceIn   time.Duration // quiet time left before it may be fenced again
	Power     Power
	ProofGen  uint64 // generation for which a proof of death is committed; 0 none

	Unprotected bool // nothing resets the machine when its leases run out under somebody

	RetryIn  time.Duration // back-off left after a failed start
	Failures int           // failed starts in a row
}

// Storage is what the lockspace says about one host id.
type Storage struct {
	Status     Liveness
	Witnesses  int
	Generation uint64
	Renewing   bool          // it renewed surely after the host's last RPC answer
	Still      time.Duration // how long it surely did not renew, by the clock of a keeper that looked
	DeadIn     time.Duration // until DEAD if nothing more is heard, as far as a witness can tell
}

// Lease is the SPM lease on the master domain as the witnesses read it.
type Lease struct {
	Known      bool // at least one witness could read it
	Conflict   bool // witnesses disagree about the owner of one version
	Held       bool
	Owner      int // host id
	Generation uint64
	Version    uint64
	SeenFor    time.Duration // how long exactly this content has been seen
}

// Desired is the operator's wish.
type Desired struct {
	Stopped bool
	Host    string // empty: any
}

// Inputs is everything that Decide looks at. It holds no clock: durations were taken when it was made.
type Inputs struct {
	Master  bool // the pool has a master domain
	Active  int  // how many domains the SPM should reach
	Desired Desired
	Lease   Lease
	Looking bool            // no look at the disk has ended since the last action
	Storage map[int]Storage // by host id
	Hosts   []Host
	TermAge time.Duration // since this leader's term began
	Policy  Policy
	// DisarmedFor is how long nobody is fenced without a person; 0: armed.
	DisarmedFor time.Duration
	// ClearFor is how long nothing has forbidden fencing: no setting, and not the silence of most hosts. At most TermAge.
	ClearFor time.Duration

	// OutreachFor is how long the holder has missed domains that a candidate reaches; OutreachAfter how long that must be so, which
	// grows with every such move.
	OutreachFor, OutreachAfter time.Duration

	Asked    bool          // the holder of this version of the lease was asked through the storage to give it up
	AskedFor time.Duration // since then
}

// Policy holds the times and permissions of the manager.
type Policy struct {
	// Grace is how long a host may be silent before anything follows from it.
	Grace time.Duration
	// YieldAfter is how long the SPM may be silent before it is asked through the storage to give the role up, and
	// YieldWait how long that is waited for before anything else is done to it.
	YieldAfter, YieldWait time.Duration
	// RenewPeriod is how often a host renews its record in the lockspace.
	RenewPeriod time.Duration
	// LeaseLife is how long after a renewal a host may still be using its leases, by its own clock.
	LeaseLife time.Duration
	// SilentAfter is how long a host must be silent, without a renewal on storage, before it is fenced when its
	// power switch does not say that it is off. A host that lives shows a renewal in three periods.
	SilentAfter time.Duration
	// FenceLiveAfter is how long a host that renews on storage but cannot be reached keeps the role before it is
	// fenced. 0 never fences such a host.
	FenceLiveAfter time.Duration
	// FenceOthers also fences unreachable hosts that do not hold the SPM lease.
	FenceOthers bool
	// UnprotectedTakeover takes the role from an unprotected host once its lease is dead, without a proof. Its machine may
	// still have writes on their way.
	UnprotectedTakeover bool
	// FenceQuiet is the least time between two fence operations on one host.
	FenceQuiet time.Duration
	// GraceSPM is added to Grace for the holder of the SPM lease, which may be busier than others, before it is fenced.
	GraceSPM time.Duration
	// GracePerUse is added for each volume that is attached to the host and each lease that it holds: what runs there is lost with it.
	GracePerUse time.Duration
	// Fencing allows hosts to be fenced without a person; DisarmedUntil forbids it for a while, DisarmedBy says who and why.
	Fencing       bool
	DisarmedUntil time.Time
	DisarmedBy    string
	// SkipIfLive leaves a host alone that renews on storage, for FenceLiveAfter; SkipIfHalfDead leaves all alone while at
	// least half of them do not answer, for then the fault is more likely here.
	SkipIfLive, SkipIfHalfDead bool
	// RestartAfterOff switches a host on again after it was fenced.
	RestartAfterOff bool
	// SoftWait is how long a host has to answer after a soft restart. KdumpStart is how long the first word of a crash kernel is
	// waited for, KdumpLimit how long the dump may take.
	SoftWait, KdumpStart, KdumpLimit time.Duration
	// DeadAfter bounds the wait for a DEAD lease: the life of a lease, the watchdog's time, and two renewal periods.
	DeadAfter time.Duration
	// RebootWait is how long a host that was switched on has to answer.
	RebootWait time.Duration
	// StartTimeout bounds how long a host may stay in role starting, StopTimeout in stopping.
	StartTimeout, StopTimeout time.Duration
	// TroubleAfter is how long a host that answers must be unwell to be non-operational.
	TroubleAfter time.Duration
	// OutreachAfter is how long an SPM must have missed domains that another host reaches before the role goes there.
	OutreachAfter time.Duration
	// Domains are the times by which domains are judged.
	Domains DomainPolicy
	// ReleaseAfter is how long a contradiction between a lease and its owner's answer must last to be acted on.
	ReleaseAfter time.Duration
}

// byID returns the host with a host id.
func (in *Inputs) byID(id int) *Host {
	for i := range in.Hosts {
		if in.Hosts[i].HostID == id {
			return &in.Hosts[i]
		}
	}
	return nil
}

// byName returns the host with a name.
func (in *Inputs) byName(name string) *Host {
	for i := range in.Hosts {
		if in.Hosts[i].Name == name {
			return &in.Hosts[i]
		}
	}
	return nil
}

// mostLost reports whether at least half of the hosts that should answer do not. Then the fault is more likely here. The
// silence of those in maintenance and of those proven dead is expected, and counts for nothing. Those that were not asked yet
// are taken for ones that answer, so what it says is true however they turn out; see unasked.
func (in *Inputs) mostLost() bool {
	lost, all := 0, 0
	for _, h := range in.Hosts {
		switch {
		case h.Reachable:
			all++
		case h.Maintenance || h.ProofGen != 0:
		case h.Unasked:
			all++
		default:
			all, lost = all+1, lost+1
		}
	}
	return in.Policy.SkipIfHalfDead && 2*lost >= all && lost > 0
}

// unasked reports whether a host that should answer was not asked yet in this term: whether most hosts are silent is not known. That
// is over when the first ping of each has ended.
func (in *Inputs) unasked() bool {
	return slices.ContainsFunc(in.Hosts, func(h Host) bool { return h.Unasked && !h.Reachable && !h.Maintenance && h.ProofGen == 0 })
}

// forbidden reports whether something keeps from fencing anybody now.
func (in *Inputs) forbidden() bool {
	return !in.Policy.Fencing || in.DisarmedFor > 0 || in.mostLost()
}

// silence is how long the host was silent, for former leaders too.
func (h *Host) silence() time.Duration { return max(h.LostFor, h.SilentFor) }

// majorityKnown reports whether enough hosts were heard to choose among them in the right order.
func (in *Inputs) majorityKnown() bool {
	n := 0
	for _, h := range in.Hosts {
		if h.Reachable {
			n++
		}
	}
	return 2*n > len(in.Hosts) || in.TermAge >= in.Policy.Grace
}
