package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// What raft says about a transfer becomes an error that callers know: one under way means "try again", anything else that
// it may have happened.
func TestFromRaft_transfer(t *testing.T) {
	t.Parallel()
	if err := fromRaft(raft.ErrLeadershipTransferInProgress); !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("under way: %v", err)
	}
	if err := fromRaft(errors.New("leadership transfer timeout")); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("timed out: %v", err)
	}
}

// Hand-overs that come to nothing must not leave a leader that can never commit again, even when it loses the leadership meanwhile and wins it
// later: raft's own would (issue 696).
func TestNode_transfer_toADeafHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		lead := w.leader()
		var deaf, other *worldHost
		for _, h := range w.hosts {
			switch {
			case h == lead:
			case deaf == nil:
				deaf = h
			default:
				other = h
			}
		}
		w.net.Cut(deaf.cfg.Name, true)
		for i := range 4 {
			w.mustApply(lead.node, set("behind", fmt.Sprint(i)))
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			if err := lead.node.TransferLeadership(ctx, deaf.cfg.Name); !errors.Is(err, ErrNoHeir) {
				t.Errorf("handing over to a host that does not answer: %v", err)
			}
			cancel()
		}
		w.net.Cut(lead.cfg.Name, true) // it steps down, and what waits for the deaf host is never answered
		w.until(10*time.Second, "it leads no more", func() error {
			if lead.node.IsLeader() {
				return errors.New("it does")
			}
			return nil
		})
		w.net.Cut(lead.cfg.Name, false)
		w.net.Cut(deaf.cfg.Name, false)
		w.until(20*time.Second, "it leads again and commits", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if !lead.node.IsLeader() {
				_ = w.leader().node.TransferLeadership(ctx, lead.cfg.Name) // looked at again
				return errors.New("it does not lead")
			}
			_, err := lead.node.Apply(ctx, set("again", "x"))
			return err
		})
		w.mustApply(other.node, set("after", "x"))
	})
}
