package keeper

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/blockdev"
)

// The test binary plays three parts: the tests, the keeper, and an agent that can be killed.
const envRole = "HOLDFAST_KEEPER_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "keeper":
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		if err := run(context.Background(), log, testOpen, testCut); err != nil {
			log.Error("keeper ended", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	case "page":
		if err := pageMain(); err != nil {
			fmt.Fprintln(os.Stderr, "page:", err)
			os.Exit(1)
		}
		os.Exit(0)
	case "agent":
		if err := agentMain(); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // these tests wait for timeouts and processes, not for a processor
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	goleak.VerifyTestMain(m)
}

// testOpen lets tests on a file system without O_DIRECT run too.
func testOpen(ctx context.Context, uri string, o blockdev.Options) (blockdev.Device, error) {
	return blockdev.Open(ctx, uri, o)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// testConfig starts this binary as the keeper.
func testConfig(dir string) Config {
	return Config{Args: []string{}, Env: []string{envRole + "=keeper"}, Dir: dir, Log: quiet()}
}

// agentMain holds a lease until it is killed. Its arguments are in the environment, its state goes to stdout.
func agentMain() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := Start(ctx, testConfig(os.Getenv("AGENT_DIR")))
	if err != nil {
		return err
	}
	ls, res := specs(os.Getenv("AGENT_LUN"), 1)
	gen, err := c.Join(ctx, ls)
	if err != nil {
		return err
	}
	version, err := c.Acquire(ctx, res)
	if err != nil {
		return err
	}
	var stay Process
	if n, _ := fmt.Sscan(os.Getenv("AGENT_STAY")+" "+os.Getenv("AGENT_STAY_AT"), &stay.PID, &stay.StartTime); n == 2 {
		if _, err := c.Acquire(ctx, stayWith(os.Getenv("AGENT_LUN"), stay)); err != nil {
			return err
		}
	}
	fmt.Printf("%d %d %d\n", c.PID(), gen, version)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until killed or told
	return c.Close(ctx)
}
