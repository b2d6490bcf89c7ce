// Package xlease holds the index of external leases: those of VMs and jobs, which belong to no volume. Its format is the
// one of VDSM's volume "xleases", so that both can use the same domain.
//
// The volume is made of areas of Geometry.AlignSize bytes (A):
//
//	0        reserved for a lockspace, unused
//	1        the index
//	2        reserved for a lease of the index, unused
//	3+n      the sanlock resource of record n, whose name is the lease's id
//
// The index is 253,952 bytes: a head of 512 bytes and 3960 records of 64 bytes. It is the truth about which leases
// there are. How many can be used is bounded by the volume: (3+n)*A + A must lie within it.
//
// Head, numbers as ASCII digits:
//
//	  0 u32  magic 0x12152016, big-endian
//	  4      zero
//	  5 4    version "0001"
//	  9      zero
//	 10 48   lockspace, padded with zeroes
//	 58      zero
//	 59 10   time of the last format or rebuild, seconds since 1970
//	 69      zero
//	 70      '-', or 'u' while all of the index is being written
//	 71      zeroes up to
//	511      newline
//
// Record:
//
//	 0 48   id, padded with zeroes; all zero: free
//	48      zero
//	49 11   byte offset of the resource, for people; never read back
//	60      zero
//	61      '-', or 'u' left by an interrupted operation of an old VDSM: not there for lookups, overwritten by an add
//	62      '-'
//	63      newline
//
// Each operation reads the index anew, and changes one sector of it (format and rebuild: all). Only the SPM may write.
// DESIGN.md has the order of writes, what a crash leaves, and where this goes beyond VDSM.
package xlease
