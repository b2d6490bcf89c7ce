package cluster

import (
	"errors"
	"testing"

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
