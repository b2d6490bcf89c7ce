package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newEventsCommand(g *global) *cobra.Command {
	var follow bool
	var limit int
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happened", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, mark, err := c.Events(cmd.Context(), 0, limit, client.Read{})
			if err != nil {
				return err
			}
			if !follow {
				return g.show(cmd, l, func() *table { return eventTable(l) })
			}
			return g.followEvents(cmd, c, l, mark.Index)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "stay and print new events; one JSON object a line with -o json")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many to begin with")
	return cmd
}

func eventTable(l []api.Event) *table {
	t := &table{head: []string{"TIME", "SEVERITY", "KIND", "HOST", "SUBJECT", "MESSAGE"}}
	for _, e := range l {
		t.add(stamp(e.Time), e.Severity, e.Kind, e.Host, e.Subject, e.Message)
	}
	return t
}

// followEvents prints events until the command is interrupted, which is no failure.
func (g *global) followEvents(cmd *cobra.Command, c *client.Client, l []api.Event, index uint64) error {
	ctx, last := cmd.Context(), uint64(0)
	for {
		for _, e := range l {
			if err := g.printEvent(cmd, e); err != nil {
				return err
			}
			last = max(last, e.Index)
		}
		next, mark, err := c.Events(ctx, max(last, 1), 0, client.Read{After: max(index, 1), Timeout: 30 * time.Second})
		if ctx.Err() == context.Canceled {
			return nil
		}
		if err != nil {
			return err
		}
		l, index = next, mark.Index
	}
}

func (g *global) printEvent(cmd *cobra.Command, e api.Event) error {
	w := cmd.OutOrStdout()
	if g.output == "json" {
		return writeLine(w, e)
	}
	_, err := fmt.Fprintln(w, stamp(e.Time), e.Severity, printable(e.Kind), printable(e.Host), printable(e.Subject), printable(e.Message))
	return err
}
