package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// benchOptions are the flags of the hidden verb `holdfast bench`.
type benchOptions struct {
	dir   string
	runs  int // of the slow measurements: kills and moves
	count int // of the fast ones
	half  int // volumes in the group when creation is measured
	full  int // volumes when memory and SPM start are measured
	only  string
}

func newBenchCommand() *cobra.Command {
	o := benchOptions{}
	cmd := &cobra.Command{
		Use:    "bench",
		Short:  "Measure Holdfast next to the peers' own commands",
		Hidden: true, // `make bench` runs it
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runBench(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "data-dir", "", "directory for the LUN and all else (default a new temporary one)")
	f.IntVar(&o.runs, "runs", 9, "runs of each kill and move")
	f.IntVar(&o.count, "count", 100, "runs of each creation and lease")
	f.IntVar(&o.half, "volumes", 500, "volumes in the volume group when creation is measured")
	f.IntVar(&o.full, "full", 1900, "volumes when memory and SPM start are measured")
	f.StringVar(&o.only, "only", "", "leave out the steps whose name does not begin so; most need the pool that earlier ones made")
	return cmd
}

// bench is one run.
type bench struct {
	o      benchOptions
	log    io.Writer // what goes on
	pool   *devProcess
	made   int // volumes so far, which also names the next one
	report benchReport
	io     ioRun
	idle   idleRun

	extendedFew samples // over the network, with few volumes
	crossedFew  samples // the same as a guest has it
	grown       int     // extents that were added to the newest volumes at once
}

// runBench measures everything and prints one table. What could not be measured is in it with the reason.
func runBench(ctx context.Context, out, log io.Writer, o benchOptions) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "holdfast-bench-"); err != nil {
			return fmt.Errorf("making a directory for the benchmark: %w", err)
		}
		defer os.RemoveAll(o.dir)
	}
	b := &bench{o: o, log: log}
	err = b.run(ctx)
	if b.pool != nil {
		_, stopErr := b.pool.stop()
		err = errors.Join(err, stopErr)
	}
	b.report.print(out)
	return err
}

// run goes through the measurements in an order that lets one pool serve for all of them: creation with half the
// volumes, the peers on the same LUN while the pool is down, then the roles, then the full domain.
func (b *bench) run(ctx context.Context) error {
	for _, step := range []struct {
		name string
		pool bool // it needs one
		f    func(context.Context) error
	}{
		{"leases: acquire and release", false, b.leases},
		{"I/O: counting in the background", false, b.startCounting},
		{"mailbox: counting in the background", false, b.startMailbox},
		{"network: cutting the SPM off", false, b.cutOff},
		{"network: growing with every cable pulled", false, b.crossCutOff},
		{"starting a pool", false, b.start},
		{"extending volumes, few of them", true, b.extendFew},
		{"growing in time, few volumes", true, b.crossFew},
		{"a LUN hangs", true, b.lunHangs},
		{"an export beside qemu-nbd", true, b.exportPeer},
		{"writing faster than volumes grow", true, b.writeFast},
		{"filling it, 64 callers at once", true, b.fillHalf},
		{"creating volumes one by one", true, b.createOne},
		{"the peers on the same LUN", true, b.peers},
		{"listing the leases of VMs", true, b.vmLeases},
		{"moving the role", true, b.moves},
		{"killing the SPM's agent, looking at the LUN", true, b.killFree},
		{"killing the SPM's agent", true, b.killAgents},
		{"killing agent and keeper", true, b.killHosts},
		{"filling the domain", true, b.fillUp},
		{"extending volumes, many of them", true, b.extendMany},
		{"growing in time, many volumes", true, b.crossMany},
		{"memory and SPM start", true, b.full},
		{"I/O: waiting for the counts", false, b.reportCounts},
		{"mailbox: waiting for the counts", false, b.reportMailbox},
	} {
		if !strings.HasPrefix(step.name, b.o.only) {
			continue
		}
		fmt.Fprintf(b.log, "bench: %s\n", step.name)
		if step.pool && b.pool == nil { // with --only
			if err := b.start(ctx); err != nil {
				return err
			}
		}
		if err := step.f(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// start starts the pool, on a LUN that has room for all volumes at their smallest size.
func (b *bench) start(ctx context.Context) (err error) {
	b.pool, err = startDev(ctx, b.o.dir, filepath.Join(b.o.dir, "supervisor.log"), "--lun-size", "2TiB")
	return err
}
