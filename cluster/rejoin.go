package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/fsm"
)

// rejoinWait bounds how long a join waits for the end of an earlier membership.
const rejoinWait = 3 * time.Second

// clearToJoin holds a join back on the leader as long as raft has a server of that name from an earlier membership. The new
// host's log is empty: counted as the old server, with its vote, it could elect a leader that lacks committed entries. The
// outcome is a refusal, or applied by nobody yet when the command may go to raft.
func (n *Node) clearToJoin(ctx context.Context, data []byte) (fsm.Outcome, error) {
	cmd, _, err := fsm.Decode(data)
	join, ok := cmd.(*fsm.HostJoin)
	if err != nil || !ok {
		return fsm.Outcome{}, nil //nolint:nilerr // what cannot be read is for the state machine to refuse
	}
	ctx, cancel := context.WithTimeout(ctx, rejoinWait)
	defer cancel()
	for {
		out, err := n.oldServer(join.Host)
		if err != nil || out.Code != fsm.CodeNotReady || ctx.Err() != nil {
			return out, err
		}
		wait(ctx, 20*time.Millisecond)
	}
}

// oldServer refuses a join while raft has a server of the host's name. A member that asks again with its own key is a retry;
// any other member of that name stands in the way for good, even if it is just being removed.
func (n *Node) oldServer(h fsm.Host) (fsm.Outcome, error) {
	member, known := n.View().Hosts.Get(h.Name)
	if known && h.KeyHash != "" && member.KeyHash == h.KeyHash {
		return fsm.Outcome{}, nil
	}
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return fsm.Outcome{}, fmt.Errorf("reading raft's configuration: %w: %w", ErrNotLeader, err)
	}
	for _, s := range future.Configuration().Servers {
		switch {
		case s.ID != raft.ServerID(h.Name):
		case known:
			return fsm.Outcome{Code: fsm.CodeExists, Message: fmt.Sprintf(
				"a host named %s is already a member; choose another name, or remove it first", h.Name)}, nil
		default:
			return fsm.Outcome{Code: fsm.CodeNotReady, Message: fmt.Sprintf(
				"the earlier membership of host %s is still being ended; join again in a moment", h.Name)}, nil
		}
	}
	return fsm.Outcome{}, nil
}
