package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newFencingCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "fencing", Short: "How silent hosts are made unable to write"}
	cmd.AddCommand(newFencingShowCommand(g), newFencingSetCommand(g), newFencingArmCommand(g), newFencingDisarmCommand(g), newFencingHistoryCommand(g))
	return cmd
}

// runFencing asks for something that answers with the policies.
func (g *global) runFencing(cmd *cobra.Command, ask func(context.Context, *client.Client) (api.Fencing, error)) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := ask(cmd.Context(), c)
	if err != nil {
		return err
	}
	return g.show(cmd, f, func() *table { return fencingFields(f) })
}

func spanOf(seconds float64) string { return time.Duration(seconds * float64(time.Second)).String() }

func fencingFields(f api.Fencing) *table {
	armed := "yes"
	if !f.Armed {
		armed = fmt.Sprintf("no, until %s (%s)", stamp(f.DisarmedUntil), f.DisarmedBy)
	}
	rows := []string{"ENABLED", yes(f.Enabled), "ARMED", armed, "GRACE", spanOf(f.GraceSeconds), "QUIET", spanOf(f.QuietSeconds),
		"SKIP IF LIVE", yes(f.SkipIfLive), "SKIP IF HALF DEAD", yes(f.SkipIfHalfDead), "RESTART", yes(f.Restart)}
	for _, op := range f.Open {
		last := ""
		if n := len(op.Steps); n > 0 {
			last = fmt.Sprintf(", at %s (%s)", op.Steps[n-1].Rung, op.Steps[n-1].Result)
		}
		rows = append(rows, "UNDER WAY", fmt.Sprintf("%s of %s since %s%s: %s", op.Action, op.Host, stamp(op.Began), last, op.Reason))
	}
	return fields(rows...)
}

func newFencingShowCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "show", Short: "Show the policies, and what is under way", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.runFencing(cmd, func(ctx context.Context, c *client.Client) (api.Fencing, error) {
				f, _, err := c.Fencing(ctx, client.Read{Consistent: consistent})
				return f, err
			})
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func newFencingSetCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "set KEY=VALUE...", Short: "Change the policies: enabled, grace, quiet, skip-if-live, skip-if-half-dead, restart",
		Example: "holdfast fencing set grace=45s restart=false", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := fencingSet(args)
			if err != nil {
				return err
			}
			return g.runFencing(cmd, func(ctx context.Context, c *client.Client) (api.Fencing, error) { return c.SetFencing(ctx, req) })
		},
	}
}

// fencingSet reads the settings of a command line. A duration of "default" takes the profile's own again.
func fencingSet(args []string) (req api.FencingSet, err error) {
	pairs, err := keyValues(args)
	if err != nil {
		return req, err
	}
	flags := map[string]**bool{"enabled": &req.Enabled, "skip-if-live": &req.SkipIfLive, "skip-if-half-dead": &req.SkipIfHalfDead, "restart": &req.Restart}
	spans := map[string]**float64{"grace": &req.GraceSeconds, "quiet": &req.QuietSeconds}
	for k, v := range pairs {
		switch {
		case flags[k] != nil:
			b, err := strconv.ParseBool(v)
			if err != nil {
				return req, usagef("%s=%s: use true or false", k, v)
			}
			*flags[k] = &b
		case spans[k] != nil:
			s, err := spanArg(k, v)
			if err != nil {
				return req, err
			}
			*spans[k] = &s
		default:
			return req, usagef("there is no setting %q: use enabled, grace, quiet, skip-if-live, skip-if-half-dead or restart", k)
		}
	}
	return req, nil
}

// spanArg reads a duration in seconds.
func spanArg(key, value string) (float64, error) {
	if value == "default" {
		return 0, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, usagef("%s=%s: use a duration such as 45s, or default", key, value)
	}
	return d.Seconds(), nil
}

func newFencingArmCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "arm", Short: "Allow fencing again before a disarming is over", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.runFencing(cmd, func(ctx context.Context, c *client.Client) (api.Fencing, error) { return c.ArmFencing(ctx) })
		},
	}
}

func newFencingDisarmCommand(g *global) *cobra.Command {
	var span time.Duration
	var reason string
	cmd := &cobra.Command{
		Use: "disarm", Short: "Fence nobody without a person for a while, for planned work; it ends by itself", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if span <= 0 {
				return usagef("--for needs a duration such as 1h")
			}
			req := api.FencingDisarm{ForSeconds: span.Seconds(), Reason: reason}
			return g.runFencing(cmd, func(ctx context.Context, c *client.Client) (api.Fencing, error) { return c.DisarmFencing(ctx, req) })
		},
	}
	cmd.Flags().DurationVar(&span, "for", 0, "how long (required), at most 168h")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the pool's history (required)")
	_ = cmd.MarkFlagRequired("for")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func newFencingHistoryCommand(g *global) *cobra.Command {
	var host string
	var limit int
	var steps bool
	cmd := &cobra.Command{
		Use: "history", Short: "List what was done to the power of hosts, with the evidence of every step", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, _, err := c.FenceHistory(cmd.Context(), host, limit, client.Read{})
			if err != nil {
				return err
			}
			return g.show(cmd, l, func() *table { return fenceHistoryTable(l, steps) })
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "only this host")
	cmd.Flags().IntVar(&limit, "limit", 20, "at most so many operations (1 to 256)")
	cmd.Flags().BoolVar(&steps, "steps", false, "show every step; -o json always does")
	return cmd
}

func fenceHistoryTable(l []api.FenceOp, steps bool) *table {
	t := &table{head: []string{"BEGAN", "HOST", "ACTION", "BY", "OUTCOME", "PROOF", "TOOK", "WHY"}}
	for _, op := range l {
		outcome, took := op.Outcome, "-"
		if outcome == "" {
			outcome = "under way"
		} else {
			took = op.Ended.Sub(op.Began).Round(time.Millisecond).String()
		}
		why := op.Reason
		if op.Outcome != "done" && op.Detail != "" {
			why += "; " + op.Detail
		}
		t.add(stamp(op.Began), op.Host, op.Action, op.By, outcome, yes(op.Proven), took, why)
		if !steps {
			continue
		}
		for _, s := range op.Steps {
			t.add("  "+stamp(s.Time), "", s.Rung, s.Device, s.Result, "", s.Through, s.Evidence)
		}
	}
	return t
}
