// Package leases holds sanlock 3.x on-disk records and the algorithms on them: lockspaces (who has which host id and
// is alive) and resources (who may write). Hosts that run sanlock and hosts that run Holdfast may share both.
//
// All integers on disk are little-endian. A lease area is Geometry.AlignSize bytes in sectors of
// Geometry.SectorSize bytes.
//
// Leader record, at byte 0 of a sector, in both kinds of area:
//
//	  0 u32 magic           lockspace 0x12212010, resource 0x06152010, cleared resource 0x11282016
//	  4 u32 version         0x00030004 or 0x00060004; the upper half must match
//	  8 u32 flags           0x10/20/40/80 area of 1/2/4/8 MiB; 0x1 held only to take a shared lease
//	 12 u32 sector size
//	 16 u64 number of hosts that take part in ballots (lockspace: 0)
//	 24 u64 maximum of hosts (lockspace: 1)
//	 32 u64 owner's host id
//	 40 u64 owner's generation
//	 48 u64 version of the lease
//	 56 48  lockspace name, zero padded
//	104 48  resource name; in a lockspace the unique name of the owning host
//	152 u64 timestamp, 0 = free
//	160 u64 unused
//	168 u32 checksum of bytes 0..167
//	172 u16 unused
//	174 u16 I/O timeout N of the writer in seconds
//	176 u64 host id that wrote the record     (lockspace: host event, target generation)
//	184 u64 generation of the writer          (lockspace: host event, value)
//	192 u64 clock of the writer               (lockspace: host event, data)
//
// Lockspace area: the record of host h is sector h-1. Bytes 256..511 are a bitmap: host x sets the bit of host h, byte
// (h-1)/8, bit (h-1)%8, to make h read the host event in the same record and the requests for what it holds.
// Resource area: sector 0 the leader, sector 1 the request record, sector 1+h the block of host h:
//
//	  0 u64 mbal       highest ballot started
//	  8 u64 bal        ballot in which the value was accepted, 0 = none
//	 16 u64 inp        value: owner's host id
//	 24 u64 inp2       value: owner's generation
//	 32 u64 inp3       value: timestamp
//	 40 u64 lver       lease version of the ballot
//	 48 u32 checksum of bytes 0..47
//	 52 u32 flags      0x1 = released
//	128 u32 mode flags 0x1 = shared
//	136 u64 generation of the sharing host
//
// Sector 2002 is the lock value block, raw bytes. It exists only where it lies within the area: with 512-byte sectors and
// with areas of 8 MiB.
//
// Request record: u32 magic 0x08292011, u32 version 0x00010001, u64 lease version asked for,
// u32 force mode: 0 none, 1 by force, 2 gracefully. It is over when the lease has reached that version.
//
// DESIGN.md in this folder has the assumptions, the crash cases and what was rejected.
package leases
