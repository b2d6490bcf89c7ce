package bootid_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/internal/bootid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The id stays the same for as long as the machine runs, whatever the environment of the normal program says.
func TestGet(t *testing.T) {
	a, err := bootid.Get()
	if err != nil || len(a) != 36 {
		t.Fatalf("%q, %v", a, err)
	}
	if b, err := bootid.Get(); err != nil || a != b {
		t.Errorf("%q, %q, %v", a, b, err)
	}
}
