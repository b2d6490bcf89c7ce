// Package rindex is sanlock's resource index: a map from names to lease areas of one lockspace, kept in front of them.
//
// At offset X of a device lie, each one lease area of A bytes long: the index, a resource lease named rindex_lease that
// guards it, and from X + 2A on the leases themselves. All share sector size S and area size A. Integers are
// little-endian.
//
// Header, at X:
//
//	 0 u32 magic 0x01042018
//	 4 u32 version 0x00010002; the upper half must match
//	 8 u32 flags: 0x1/2/4/8 for areas of 1/2/4/8 MiB (not the bits that leaders use)
//	12 u32 sector size
//	16 u32 maximum of resources, 4096 unless told otherwise
//	20 u32 unused
//	24 u64 X
//	32 48  lockspace name, zero padded
//
// Entry i, 64 bytes at X + S + 64i, stands for the lease at X + 2A + iA:
//
//	 0 u64 offset of the lease, 0 = free
//	 8 u32 flags
//	12 u32 unused
//	16 48  resource name, zero padded
//
// There is no checksum and no sequence number. Create and Delete hold rindex_lease while they change an entry. Format,
// Update and Rebuild take no lock: they are for repair, when no host uses the index.
//
// sanlock up to 3.8.5 computes the offset of a slot in 32 bits: from the slot at 2 GiB behind the first lease on it
// answers with garbage. This package neither fills such slots nor offers them, so that both can share an index.
//
// A crash between the steps of Create leaves an initialised lease that no entry names; the slot is used by the next
// Create. A crash between the steps of Delete leaves a lease without an entry. Rebuild finds both again.
package rindex
