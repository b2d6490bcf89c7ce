package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/config"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// newAgentCommand is `holdfast agent`.
func newAgentCommand() *cobra.Command {
	var file string
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "agent --config FILE",
		Short: "Run this machine as a host of the pool",
		Long: "Runs in the foreground until SIGTERM or SIGINT. A host that belongs to no cluster yet waits for\n" +
			"`holdfast init` or `holdfast join` on its unix socket.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printConfig {
				text, err := config.Print(config.Default())
				fmt.Fprintf(cmd.OutOrStdout(), "%s", text)
				return err
			}
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return runAgent(ctx, cfg, newLogger(cfg.Log, os.Stderr).With("host", cfg.Name))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (YAML)")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "print a documented configuration file and exit")
	return cmd
}

func loadConfig(file string) (config.Agent, error) {
	if file == "" {
		return config.Agent{}, usageError{errors.New("--config FILE is needed; holdfast agent --print-config prints one to start from")}
	}
	cfg, err := config.Load(file)
	if err != nil {
		return config.Agent{}, usageError{err}
	}
	return cfg, nil
}

// newLogger makes the agent's logger.
func newLogger(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated with the configuration; info otherwise
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// runAgent builds the host and its API, runs both, and stops them in order: the API first, so that no request finds
// half a host.
func runAgent(ctx context.Context, cfg config.Agent, log *slog.Logger) error {
	lock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	metrics, err := newMetrics()
	if err != nil {
		return err
	}
	u := &users{}
	hostCfg := hostConfig(cfg, log, metrics)
	hostCfg.Users = u
	h := host.New(hostCfg)
	if u.Manager, err = newAttach(cfg, h, h, metrics, log); err != nil {
		return err
	}
	if err := errors.Join(metrics.registry.Register(collector{h}), metrics.registry.Register(domainCollector{h}),
		metrics.registry.Register(attachCollector{u.Manager})); err != nil {
		return fmt.Errorf("registering the host's metrics: %w", err)
	}
	servers, err := newServers(ctx, cfg, &backend{host: h, attached: u.Manager, log: log}, log, metrics)
	if err != nil {
		return err
	}
	// The host goes on until the servers are down.
	hostCtx, stopHost := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHost()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer stopHost()
		return runServed(gctx, servers, h, u.Manager, log)
	})
	g.Go(func() error {
		if err := h.Run(hostCtx); err != nil {
			return err
		}
		return hostCtx.Err()
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// runServed looks after the attached volumes for as long as the API is served, and then for no longer: the storage that they
// grow by goes down next. What is attached stays.
func runServed(ctx context.Context, s *servers, h *host.Host, attached *attach.Manager, log *slog.Logger) error {
	attachCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		var follow sync.WaitGroup
		follow.Go(func() { followSizes(attachCtx, h, attached, log) })
		err := attached.Run(attachCtx)
		follow.Wait()
		ended <- err
	}()
	err := s.run(ctx, h.Settled())
	stop()
	return errors.Join(err, <-ended)
}

// lockDataDir makes sure that one agent uses the directory, and leaves its pid there for supervisors.
func lockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "agent.pid"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s: %w", dir, cluster.ErrDataDirInUse)
	}
	pid := fmt.Appendf(nil, "%d\n", os.Getpid())
	if err := errors.Join(f.Truncate(0), writeAt(f, pid)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("recording the pid: %w", err)
	}
	return f, nil
}

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// hostConfig turns the configuration file into the host's parts.
func hostConfig(cfg config.Agent, log *slog.Logger, m *metrics) host.Config {
	return host.Config{
		Cluster: cluster.Config{
			Name: cfg.Name, DataDir: cfg.DataDir,
			ClusterAddr: cfg.Cluster.Listen, ClusterAdvertise: cfg.Cluster.Advertise,
			GossipAddr: cfg.Gossip.Listen, GossipAdvertise: cfg.Gossip.Advertise, HTTPAddr: apiURL(cfg),
			Raft: cluster.RaftTimes{Heartbeat: cfg.Raft.Heartbeat, Election: cfg.Raft.Election,
				LeaderLease: cfg.Raft.LeaderLease, Commit: cfg.Raft.Commit},
			LogWatchdog: cfg.Raft.LogWatchdog, SnapshotThreshold: cfg.Raft.Snapshot,
			Log: log, MetricSink: m.sink,
		},
		HostName: cfg.Name,
		Keeper:   keeper.Config{Dir: cfg.DataDir, Watchdog: cfg.Watchdog, Log: log},
		Profile:  cfg.Profile, Devices: cfg.Devices, Fencing: fenceAgent(cfg.Fencing), Grace: cfg.Grace, DomainFailure: cfg.Failure, Log: log,
		UnprotectedTakeover: cfg.Takeover,
	}
}

// fenceAgent is the power switch of the other hosts; nil where there is none.
func fenceAgent(c config.Fencing) fencing.Agent {
	if c.Agent == "process" {
		return fencing.NewProcess(c.Socket)
	}
	return nil
}

// apiURL is where clients reach this host's API.
func apiURL(cfg config.Agent) string {
	switch addr := firstOf(cfg.HTTP.Advertise, cfg.HTTP.Listen); {
	case addr == "":
		return ""
	case cfg.Dev:
		return "http://" + addr
	default:
		return "https://" + addr
	}
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
