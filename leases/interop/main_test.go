package interop

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/leases/keeper"
)

// The test binary plays three parts: the tests, a keeper, and an agent that counts under a lease and can be killed.
const envRole = "HOLDFAST_INTEROP_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "keeper":
		exit(keeper.Main(context.Background(), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})), nil))
	case "agent":
		exit(agentMain())
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil { // these tests wait for timeouts, not for a processor
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(built.dir)
		os.Exit(code)
	}))
}

// exit ends a process that plays a part.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(envRole)+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
