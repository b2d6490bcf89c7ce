package cluster

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain looks for leaks. memberlist's shutdown does not wait for a probe that is under way, which ends by itself
// within its TCP timeout.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).triggerFunc"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).pushPullTrigger"))
}
