package crash

import (
	"os"
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	os.Setenv("HOLDFAST_VERIFY", "all") // every text that is committed passes the strict check first
	debug.SetGCPercent(300)             // little lives longer than one state
	debug.SetMemoryLimit(gib)           // whatever happens: others use the machine too
	goleak.VerifyTestMain(m)
}
