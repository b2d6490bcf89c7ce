// Package raftlog keeps Raft's log and votes in a bbolt file, and takes nothing from it that was not put there.
//
// bbolt checks its two meta pages and nothing else: a bit that turned over in another page ends the process, or goes unnoticed. So Open
// walks the whole file first, with its own eyes and bounds, and refuses a damaged one with a DamagedError; only then bbolt opens it.
//
// The format is that of raft-boltdb: a bucket "logs" with entries by index (8 bytes, big-endian) in MessagePack, and a bucket "conf" for
// term and vote. To that it adds, so that older programs can still read it:
//
//	behind each entry    "HFc1" and the CRC-32C of key and entry, 4 bytes little-endian
//	conf/holdfast.check  "HFk1", the number of the transaction that wrote it and the sum over the content,
//	                     8 bytes little-endian each, and the CRC-32C of these 20 bytes
//
// The sum is over the CRC-64s of all pairs in both buckets, modulo 2^64, so that a change needs only the pairs that it touches. It is
// written in the same transaction as the change. When the file's last transaction is a later one, an older program has written since:
// then the sum says nothing, what has a CRC of its own is still checked, and opening the file makes it anew.
package raftlog
