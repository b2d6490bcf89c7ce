// Package extend is a host's way to larger volumes: it asks the SPM over the network, and through the storage when the network
// does not answer. A guest waits behind it, so the storage is asked soon, and asking twice is harmless: the SPM makes a volume at
// least as large as asked, and the second request finds it so.
//
//	network answers                       its answer counts; the storage is not used
//	no answer within Patience             the storage is asked too; the first success counts
//	refused, and asking again may help    (no SPM there, unreachable, no answer) the storage is asked at once
//	refused for good                      (no such volume, no sense, out of space) the caller gets the reason
//	the last request had no answer        both at once, until the network answers again
//
// The mailbox cannot say why it refused. While the network may still say it, its answer is waited for.
package extend
