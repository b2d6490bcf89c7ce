// Package keeper is the small process that holds the leases of an agent, and the agent's side of it.
//
// The keeper is the agent's own binary started again. It inherits three descriptors: a shared page (memfd) in which it
// publishes until when each lease is good, one end of a unix socket pair for requests, and a pidfd of the agent. When
// the agent is gone it frees the resource leases at once, leaves the lockspaces and ends. When the keeper is gone
// nobody renews, and every Guard expires by itself.
//
// Frames on the socket are a little-endian u32 length and that many bytes of JSON.
//
// Shared page, in 64-bit words of the machine's own byte order, every access atomic:
//
//	word 0 magic, word 1 layout version
//	from word 64:  16 lockspace slots of 8 words:  sequence, state, expiry (boot time, ns), generation
//	from word 192: 128 resource slots of 8 words:  sequence, state, version, generation, lockspace slot,
//	                                                     FNV-1a of lockspace/name
//
// A slot is being changed while its sequence is odd; a reader takes what it read only if the sequence was even and the
// same before and after. State 1 is held, for a resource exclusively; state 2 is a resource held shared; everything else
// is not held.
package keeper
