package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newSPMCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "spm", Short: "The role that may write"}
	cmd.AddCommand(newSPMStatusCommand(g), newSPMMoveCommand(g), newSPMStopCommand(g), newSPMStartCommand(g))
	return cmd
}

// runSPM asks for something that answers with the role's state.
func (g *global) runSPM(cmd *cobra.Command, ask func(context.Context, *client.Client) (api.SPM, error)) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := ask(cmd.Context(), c)
	if err != nil {
		return err
	}
	return g.show(cmd, s, func() *table { return spmFields(s) })
}

func spmFields(s api.SPM) *table {
	rows := []string{"HOST", s.Host, "HOST ID", fmt.Sprint(s.HostID), "EPOCH", fmt.Sprint(s.Epoch), "STATE", s.State,
		"SINCE", stamp(s.Since), "REASON", s.Reason, "DESIRED", s.Desired}
	if s.Explained != nil {
		rows = append(rows, explainedRows(s.Explained)...)
	}
	return fields(rows...)
}

// explainedRows say what the manager thinks.
func explainedRows(e *api.SPMExplained) []string {
	said := e.Leader
	if said == "" {
		said = "this host alone, which does not lead"
	}
	rows := []string{"SAID BY", said, "DECISION", e.Row, "WHY", e.Why}
	if e.Chosen != "" {
		rows = append(rows, "WHY THERE", e.Chosen)
	}
	if e.Awaits != "" {
		rows = append(rows, "AWAITS", e.Awaits+inSeconds(e.InSeconds))
	}
	for i, h := range e.Next {
		label := "NOT NEXT"
		switch {
		case h.Able && i == 0:
			label = "NEXT"
		case h.Able:
			label = "THEN"
		}
		rows = append(rows, label, h.Host+": "+h.Why+inSeconds(h.InSeconds))
	}
	for _, m := range e.Moves {
		rows = append(rows, "MOVES WHEN", m)
	}
	return rows
}

// inSeconds adds a countdown.
func inSeconds(s float64) string {
	if s <= 0 {
		return ""
	}
	return fmt.Sprintf(" (in %s)", seconds(s))
}

func newSPMStatusCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show who may write and why, who is next, and what is awaited", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.runSPM(cmd, func(ctx context.Context, c *client.Client) (api.SPM, error) {
				s, _, err := c.SPM(ctx, client.Read{Consistent: consistent})
				return s, err
			})
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func newSPMMoveCommand(g *global) *cobra.Command {
	req := api.SPMMove{}
	cmd := &cobra.Command{
		Use: "move [HOST]", Short: "Move the role to another host, and wait until it serves there", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.To = args[0]
			}
			return g.runSPM(cmd, func(ctx context.Context, c *client.Client) (api.SPM, error) { return c.MoveSPM(ctx, req) })
		},
	}
	cmd.Flags().StringVar(&req.To, "to", "", "the host, as HOST")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the pool's history")
	return cmd
}

func newSPMStopCommand(g *global) *cobra.Command {
	req := api.SPMStop{}
	cmd := &cobra.Command{
		Use: "stop", Short: "Let nobody have the role until spm start; volumes cannot be changed meanwhile", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.runSPM(cmd, func(ctx context.Context, c *client.Client) (api.SPM, error) { return c.StopSPM(ctx, req) })
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the pool's history")
	return cmd
}

func newSPMStartCommand(g *global) *cobra.Command {
	req := api.SPMStart{}
	return &cobra.Command{
		Use: "start [HOST]", Short: "Let a host have the role again", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.To = args[0]
			}
			return g.runSPM(cmd, func(ctx context.Context, c *client.Client) (api.SPM, error) { return c.StartSPM(ctx, req) })
		},
	}
}
