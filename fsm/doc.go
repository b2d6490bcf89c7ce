// Package fsm is the replicated state of the cluster: hosts, the pool, the mirror of its domains and volumes, events,
// tokens and proofs.
//
// All times are unix nanoseconds.
//
// It is pure. Apply uses no clock, no random source and no I/O; times, ids and secrets' hashes arrive inside commands,
// so that every replica computes the same state from the same log. codec.go has the layout of a log entry, kinds.go the
// numbers of the commands.
//
// The mirror of domains and volumes is derived from the LUNs. Each entry carries (epoch, seq): the version of the SPM
// lease it was written under and the number of the change within that epoch. An entry that is not newer than what is
// known, be that an entry or the tombstone of one, is refused. That makes late and repeated commands harmless.
package fsm
