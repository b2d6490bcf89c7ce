package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/nemesis/safe"
)

// nemesisOptions are the flags of holdfast nemesis.
type nemesisOptions struct {
	kinds []string
	time  time.Duration
	seed  uint64
	yes   bool
}

func newNemesisCommand(g *global) *cobra.Command {
	o := nemesisOptions{}
	cmd := &cobra.Command{
		Use: "nemesis", Short: "Inject faults into a test pool, and measure how long it stands still", Args: cobra.NoArgs,
		Long: `Inject faults into a test pool, one after another, and measure for each kind how long no volume could be made and nothing
could be read. Only a pool that was made with 'holdfast init --test-pool', or by 'holdfast dev', is hurt. Asks before it begins.
With a host's unix socket as --address, on that host and as its user, the agent there is killed and stopped too: something must
start it again. Volumes that the run makes to measure are deleted again; every other volume is left alone.`,
		Example: "  holdfast nemesis --time 5m\n  holdfast nemesis --kind spm.move --time 1m --yes",
		RunE:    func(cmd *cobra.Command, _ []string) error { return g.runNemesis(cmd, o) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.kinds, "kind", nil, "spm.move, raft.transfer, agent.kill, agent.stop; may be repeated (default all that can be had)")
	f.DurationVar(&o.time, "time", 2*time.Minute, "how long, at most 1h")
	f.Uint64Var(&o.seed, "seed", 0, "of the choice of faults (default a random one)")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	return cmd
}

func (g *global) runNemesis(cmd *cobra.Command, o nemesisOptions) error {
	if err := safe.CheckTime(o.time); err != nil {
		return usageError{fmt.Errorf("--time: %w", err)}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, sigTerm)
	defer stop()
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	s, _, err := c.Status(ctx, client.Read{})
	if err != nil {
		return err
	}
	if err := safe.Check(s); err != nil {
		return err
	}
	run, err := g.nemesisRun(c, s, o)
	if err != nil {
		return err
	}
	defer closeAll(run.Clients[:len(run.Clients)-1]) // the last is c
	run.Say = func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
	}
	announce(cmd.ErrOrStderr(), s, run)
	if !o.yes && !confirmed(ctx, cmd, s.Pool.Name) {
		return fmt.Errorf("%w: not confirmed", safe.ErrRefused)
	}
	rep, err := run.Do(ctx)
	if serr := g.show(cmd, rep, func() *table { return boundsTable(rep) }); err == nil {
		err = serr
	}
	return err
}

// nemesisRun puts a run together. The host that was named is asked last: its agent may be the one that is killed.
func (g *global) nemesisRun(c *client.Client, s api.Status, o nemesisOptions) (*safe.Run, error) {
	run := &safe.Run{Time: o.time, Seed: cmp.Or(o.seed, rand.Uint64()>>1)}
	if a, ok := g.localAgent(); ok {
		run.Agent = a
	}
	kinds, err := safe.Choose(o.kinds, run.Agent != nil)
	if err != nil {
		return nil, usageError{err}
	}
	run.Kinds = kinds
	for _, h := range s.Hosts {
		if h.Name == s.Host || h.HTTP == "" {
			continue
		}
		other := *g
		other.address = h.HTTP
		hc, err := other.client()
		if err != nil {
			closeAll(run.Clients)
			return nil, fmt.Errorf("reaching host %s: %w", h.Name, err)
		}
		run.Clients = append(run.Clients, hc)
	}
	run.Clients = append(run.Clients, c)
	return run, nil
}

func closeAll(clients []*client.Client) {
	for _, c := range clients {
		c.Close()
	}
}

// announce says what is going to happen.
func announce(w io.Writer, s api.Status, r *safe.Run) {
	fmt.Fprintf(w, "Pool %s (%s), a test pool of %d hosts, asked through %s. For %s, one after another:\n", s.Pool.Name, s.Pool.ID, len(s.Hosts), s.Host, r.Time)
	for _, k := range r.Kinds {
		fmt.Fprintf(w, "  %-14s %s\n", k.Name, k.Does)
	}
	if !slices.ContainsFunc(r.Kinds, func(k safe.Kind) bool { return k.Local }) {
		fmt.Fprintln(w, "No agent is killed or stopped: that takes its unix socket as --address, on its machine.")
	}
	fmt.Fprintf(w, "Whoever uses the pool meanwhile waits, and may see errors. Seed %d.\n", r.Seed)
}

// confirmed asks for the pool's name. An interrupt is a no; the read that nobody answers ends with the program.
func confirmed(ctx context.Context, cmd *cobra.Command, pool string) bool {
	fmt.Fprintf(cmd.ErrOrStderr(), "Type the pool's name to begin: ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // an end without a line is a no
		answer <- line
	}()
	select {
	case line := <-answer:
		return strings.TrimSpace(line) == pool
	case <-ctx.Done():
		return false
	}
}

func boundsTable(rep safe.Report) *table {
	t := &table{head: []string{"FAULT", "TIMES", "FAILED", "NO CREATE p50", "p99", "MAX", "NO READ p50", "p99", "MAX"}}
	ms := func(v float64) string { return fmt.Sprintf("%.0f ms", v) }
	for _, b := range rep.Bounds {
		t.add(b.Kind, fmt.Sprint(b.Faults), fmt.Sprint(b.Failed), ms(b.Creates.P50), ms(b.Creates.P99), ms(b.Creates.Max),
			ms(b.Reads.P50), ms(b.Reads.P99), ms(b.Reads.Max))
	}
	return t
}
