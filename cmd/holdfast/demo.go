package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// demoVolumes is how many volumes the demo makes before it kills anything.
const demoVolumes = 20

// errDemo says that the demo found something off; what it was has been printed.
var errDemo = errors.New("the demo found something off")

func newDemoCommand() *cobra.Command {
	var dir string
	var keep bool
	cmd := &cobra.Command{
		Use:    "demo",
		Short:  "Show a pool losing its SPM and going on, with the real programs as judges",
		Hidden: true, // `make demo` runs it
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runDemo(ctx, cmd.OutOrStdout(), dir, keep)
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "directory of the pool (default a new temporary one)")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the directory in place")
	return cmd
}

// demo is one run: a pool, and a report of what was done to it.
type demo struct {
	out    io.Writer
	pool   *devProcess
	report demoReport
	killed string // the host that was SPM
}

// runDemo runs the steps in order. The pool is stopped in any case, and the table printed.
func runDemo(ctx context.Context, out io.Writer, dir string, keep bool) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "holdfast-demo-"); err != nil {
			return fmt.Errorf("making a directory for the demo: %w", err)
		}
	}
	if !keep {
		defer os.RemoveAll(dir)
	}
	d := &demo{out: out}
	fmt.Fprintf(out, "Holdfast demo in %s\n\n", dir)
	steps := d.run(ctx, dir)
	stop := d.stop()
	d.report.print(out)
	if err := errors.Join(steps, stop); err != nil {
		d.showLogs(dir)
		return fmt.Errorf("%w: %w", errDemo, err)
	}
	if d.report.failed() {
		return errDemo
	}
	return nil
}

// run goes through the story until a step fails.
func (d *demo) run(ctx context.Context, dir string) error {
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return d.start(ctx, dir) },
		d.createVolumes, d.showStatus, d.killSPM, d.moveBack, d.checkDomain, d.judge,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// start brings a pool up in a process of its own, as a person would.
func (d *demo) start(ctx context.Context, dir string) error {
	return d.report.step("start three hosts, form cluster and pool", func() (string, error) {
		p, err := startDev(ctx, dir, filepath.Join(dir, "supervisor.log"))
		d.pool = p
		if err != nil {
			return "", err
		}
		f := p.file()
		return fmt.Sprintf("%d hosts on a sparse 64 GiB LUN, pool %s", len(f.Hosts), f.Pool), nil
	})
}

// stop stops the pool and makes sure that nothing runs any more.
func (d *demo) stop() error {
	if d.pool == nil {
		return nil
	}
	return d.report.step("stop every process", func() (string, error) {
		n, err := d.pool.stop()
		return fmt.Sprintf("%d processes have exited", n), err
	})
}

// showLogs prints the ends of the logs when something went wrong.
func (d *demo) showLogs(dir string) {
	logs, err := filepath.Glob(filepath.Join(dir, "*", "agent.log"))
	if err != nil {
		return
	}
	for _, path := range append(logs, filepath.Join(dir, "supervisor.log")) {
		fmt.Fprintf(d.out, "\n--- end of %s\n", path)
		for _, line := range tail(path, 15) {
			fmt.Fprintln(d.out, line)
		}
	}
}

// within is ctx with the deadline that a step may take.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}
