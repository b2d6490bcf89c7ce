package cluster

import (
	"errors"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/transport"
)

var (
	// ErrOutcomeUnknown means that a command may or may not have been, or may still be, committed.
	ErrOutcomeUnknown = transport.ErrOutcomeUnknown
	// ErrUnreachable means that a host surely did not get the request.
	ErrUnreachable = transport.ErrUnreachable
	// ErrNoLeader means that no host leads the cluster now; nothing was done.
	ErrNoLeader error = &codedError{"no_leader", "the cluster has no leader now; it has one again when most hosts can reach each other"}
	// ErrNotLeader means that the host asked does not lead the cluster; nothing was done.
	ErrNotLeader error = &codedError{"not_leader", "this host does not lead the cluster"}
	// ErrDataDirInUse means that another process runs on the data directory.
	ErrDataDirInUse error = &codedError{"data_dir_in_use", "another holdfast process uses this data directory"}
	// ErrNotMember means that the data directory belongs to no member.
	ErrNotMember error = &codedError{"not_member", "this host is not a member of a cluster; run 'holdfast init' or 'holdfast join'"}
	// ErrAlreadyMember means that the data directory belongs to a member already.
	ErrAlreadyMember error = &codedError{"already_member", "this host is a member of a cluster already; run 'holdfast leave' first"}
	// ErrNotLocal means that the data directory is on a network file system.
	ErrNotLocal error = &codedError{"not_local", "the data directory must be on a local disk"}
	// ErrNoHeir means that the leadership cannot be handed over now. The cluster has its leader.
	ErrNoHeir error = &codedError{"no_heir", "nobody can take the leadership now"}
	// ErrLastHost means that the only host of a cluster cannot leave it.
	ErrLastHost error = &codedError{"last_host", "the last host cannot leave its cluster"}
	// ErrVersion means that the cluster's active version does not know a command yet.
	ErrVersion error = &codedError{"version", "not every host of the cluster knows this yet; upgrade them all first"}
	// ErrClosed means that the node does not run.
	ErrClosed error = &codedError{"closed", "the cluster node is not running"}
	// ErrHung means that raft's log disk does not answer.
	ErrHung error = &codedError{"log_hung", "the disk of raft's log does not answer"}
	// ErrLogDamaged means that raft's files on this host do not hold what was written to them. Nothing was changed or believed.
	ErrLogDamaged error = &codedError{"log_damaged", "this host must not go on with it. The pool is on its LUNs, and the cluster on the " +
		"other hosts: look after the disk, move the folder 'cluster' out of this host's data directory, run holdfast host remove for " +
		"this host on another one, and join again (docs/operations.md, 'Stopping, restarting, losing hosts')"}
)

type codedError struct{ code, text string }

func (e *codedError) Error() string     { return e.text }
func (e *codedError) ErrorCode() string { return e.code }

// surelyNot says whether an attempt to apply a command failed without any chance that it will be committed.
func surelyNot(err error) bool {
	for _, sure := range []error{ErrUnreachable, ErrNotLeader, ErrNoLeader, ErrClosed, ErrHung, transport.ErrNoMethod, transport.ErrNotMember} {
		if errors.Is(err, sure) {
			return true
		}
	}
	return false
}

// fromRaft translates the errors of raft's futures.
func fromRaft(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return errors.Join(ErrNotLeader, err)
	}
	return errors.Join(ErrOutcomeUnknown, err)
}
