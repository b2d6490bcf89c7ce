// Package host is one host of the pool put together: its LUNs, its keeper, its place in the cluster, its SPM role and,
// while it leads, the manager. It owns the order in which these start and stop.
//
//	node (raft, gossip, rpc)
//	  +- runtime, one after the other for as long as the host is a member
//	       keeper process -> lockspaces of every domain -> SPM role
//	  +- manager, while this host leads
//
// The runtime is rebuilt from nothing whenever its keeper dies: a keeper's death voids every lease, so nothing of what
// was built on them may live on.
package host
