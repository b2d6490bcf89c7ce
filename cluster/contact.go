package cluster

import "time"

// LastContact is how long ago this host last heard from the leader: 0 on the leader itself, and since its start on a
// host that has not heard of one.
func (n *Node) LastContact() time.Duration {
	select {
	case <-n.ready:
	default:
		return 0
	}
	if n.IsLeader() {
		return 0
	}
	last := n.raft.LastContact()
	if last.IsZero() {
		return time.Since(n.opened)
	}
	return time.Since(last)
}
