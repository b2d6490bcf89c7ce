// Package cluster is a host's place among the others: raft for the replicated state, serf gossip for hints about who is
// alive, one TLS port for raft and calls, and the duties that come and go with raft leadership.
//
// A Node is opened from its data directory (Open), or makes one (Bootstrap on the first host, Join on every other).
// Methods and leader duties are registered on it, then Run keeps it going until its context ends.
//
// Any host may Apply a command: it is forwarded to the leader, tried at most twice, and carries a request id so that it
// is applied once. DESIGN.md says what is assumed of the disk and the network and what follows from a crash at any point.
package cluster
