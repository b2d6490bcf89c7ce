package export

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/blockdev"
)

// The test binary plays two parts: the tests, and an export in a process of its own.
const envRole = "HOLDFAST_EXPORT_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(envRole) == "export" {
		if err := exportMain(); err != nil {
			fmt.Fprintln(os.Stderr, "export:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// exportMain is what the program's own sub-command does.
func exportMain() error {
	return Main(context.Background(), Process{
		Spec: os.NewFile(3, "spec"), Ready: os.NewFile(4, "ready"),
		Guard: func(context.Context, Spec) (blockdev.Guard, error) { return &right{}, nil },
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
}

// right is a Guard that allows until it is told otherwise.
type right struct{ err atomicError }

func (r *right) Check(time.Duration) error { return r.err.load() }
func (r *right) Epoch() uint64             { return 1 }
