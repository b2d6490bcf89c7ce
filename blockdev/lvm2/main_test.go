package lvm2

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	os.Setenv("HOLDFAST_VERIFY", "all") // every text that a test commits passes the strict check first
	goleak.VerifyTestMain(m)
}
