package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// devOptions are the flags of `holdfast dev`.
type devOptions struct {
	DataDir string // where the LUN file, the hosts' data and dev.json lie; absolute
	Hosts   int    // number of hosts
	LUNSize int64  // size of the LUN file in bytes, when it is made
	Profile string // timing profile of a new pool: dev, fast or compatible; empty on a second start keeps it
	Chunk   int64  // by how much attached thin volumes grow, in bytes; 0 keeps what it was, at first the agent's default
}

// defaultDevHosts and defaultDevProfile are what a new directory gets when the flags say nothing.
const (
	defaultDevHosts   = 3
	defaultDevProfile = "dev"
	defaultDevLUN     = "64GiB"
	maxDevHosts       = 32
	signalEcho        = time.Second
)

func newDevCommand() *cobra.Command {
	o := devOptions{}
	size, chunk := defaultDevLUN, ""
	cmd := &cobra.Command{
		Use:   "dev --data-dir DIR",
		Short: "Run a whole pool on this machine: several real hosts that share one LUN file",
		Long: `Run a whole pool on this machine for trying things out and for tests.

Makes a sparse file that plays the LUN, starts one real agent process for each host (each with its keeper), forms the
cluster and the pool, and writes DIR/dev.json when volumes can be created. Stays in the foreground; Ctrl-C stops every
process in order. A second start on the same DIR brings the same pool back.

The supervisor is each host's power switch (fence agent "process"): killing both processes of the host that is SPM
shows a fencing, with the exit of the processes as the proof. A host that dies by itself is started again after 2 s.
The API is plain HTTP on loopback here; agents outside dev speak TLS.`,
		Example: `  holdfast dev --data-dir /tmp/pool
  HOLDFAST_ADDR=$(jq -r .api /tmp/pool/dev.json) holdfast status`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd, size, chunk); err != nil {
				return err
			}
			return runDev(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", "", "directory of the pool (required; made when missing)")
	f.IntVar(&o.Hosts, "hosts", 0, fmt.Sprintf("number of hosts (default %d, later as many as there are; more adds hosts)", defaultDevHosts))
	f.StringVar(&size, "lun-size", size, "size of the LUN file when it is made; it is sparse")
	f.StringVar(&o.Profile, "profile", "", "timing profile of a new pool: dev, fast or compatible (default dev)")
	f.StringVar(&chunk, "chunk", "", "by how much attached thin volumes grow (default 2.5GiB, later what it was)")
	_ = cmd.MarkFlagRequired("data-dir")
	return cmd
}

// complete checks the flags and fills in what depends on the directory.
func (o *devOptions) complete(cmd *cobra.Command, size, chunk string) error {
	var err error
	if cmd.Flags().Changed("chunk") {
		if o.Chunk, err = parseSize(chunk); err != nil {
			return usageError{fmt.Errorf("--chunk: %w", err)}
		}
	}
	if o.LUNSize, err = parseSize(size); err != nil {
		return usageError{fmt.Errorf("--lun-size: %w", err)}
	}
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return fmt.Errorf("finding the data directory: %w", err)
	}
	if cmd.Flags().Changed("hosts") && (o.Hosts < 1 || o.Hosts > maxDevHosts) {
		return usageError{fmt.Errorf("--hosts must be 1 to %d, not %d", maxDevHosts, o.Hosts)}
	}
	return o.fill()
}

// fill takes what the flags leave open from the directory, or the defaults.
func (o *devOptions) fill() error {
	st, err := loadDevState(o.DataDir)
	if err != nil {
		return err
	}
	if o.Hosts == 0 {
		o.Hosts = max(len(st.Hosts), 0)
	}
	if o.Hosts == 0 {
		o.Hosts = defaultDevHosts
	}
	if o.Profile == "" && st.Profile == "" {
		o.Profile = defaultDevProfile
	}
	return nil
}

// runDev runs the supervisor until a signal. Another signal, later than the echo that some programs send to the whole
// process group, ends the supervisor at once, and with it its children.
func runDev(cmd *cobra.Command, o devOptions) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, func() {
		time.AfterFunc(signalEcho, func() { signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) })
	})
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := openDevPool(o, cmd.OutOrStdout(), log)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
