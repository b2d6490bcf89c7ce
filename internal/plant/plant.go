// Package plant plants mistakes in the program, for failure injection to find: a checker that finds none of them proves nothing.
//
// Only a build with the tag jepsen has them, and there only those that the environment names. Without the tag On is false at compile
// time, so that nothing of a mistake is in the program. A mistake belongs beside the code that it breaks, in one line.
package plant

// Env names the mistakes in the environment of agent and keeper, separated by commas.
const Env = "HOLDFAST_PLANT"

// The mistakes.
const (
	// GuardForever lets a guard pass for ever, once its lease was held.
	GuardForever = "guard-forever"
	// MirrorFirst answers a create, and shows it in the mirror, before it is on disk.
	MirrorFirst = "mirror-first"
	// NoEpochCheck takes entries of an old epoch for those of a new one, lets a deposed SPM go on, and commits to a volume group
	// without looking whether somebody else has.
	NoEpochCheck = "no-epoch-check"
	// LateWrite gives leases up while device calls are on their way.
	LateWrite = "late-write"
	// DoubleFree frees the extents of each volume that is deleted once more, at the next deletion.
	DoubleFree = "double-free"
	// FenceNoWait takes a host for dead that nobody has switched off.
	FenceNoWait = "fence-no-wait"
	// StaleRead answers a consistent read from this host's mirror, however old.
	StaleRead = "stale-read"
	// UnguardedExport lets the export of an attached volume write whatever becomes of its lease.
	UnguardedExport = "unguarded-export"
	// ExtendTwice leaves the extents that an extension gave away among the free ones.
	ExtendTwice = "extend-twice"
	// DropWrite lets an export acknowledge some writes that it does not carry out.
	DropWrite = "drop-write"
	// MailOnce writes a host's page of the mailbox for its first request alone.
	MailOnce = "mail-once"
	// FenceNoIntent gives the order to switch a host off before the intent of it is committed.
	FenceNoIntent = "fence-no-intent"
	// ProofNoStatus takes the answer to an order to switch off for a proof: nobody asks the switch for its status.
	ProofNoStatus = "proof-no-status"
	// FreeNoProof frees the host id of a host that was to be fenced, whatever came of it.
	FreeNoProof = "free-no-proof"
)

// Names lists all mistakes.
func Names() []string {
	return []string{GuardForever, MirrorFirst, NoEpochCheck, LateWrite, DoubleFree, FenceNoWait, StaleRead, UnguardedExport, ExtendTwice, DropWrite, MailOnce,
		FenceNoIntent, ProofNoStatus, FreeNoProof}
}
