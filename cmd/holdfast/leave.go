package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newLeaveCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "leave", Short: "Take this host out of its cluster", Args: cobra.NoArgs,
		Long: `Take this host out of its cluster: it hands over its roles, frees its leases, and forgets its certificate. Its host id
may be given to another host afterwards.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.runSetup(cmd, func(ctx context.Context, c *client.Client) (api.Member, error) { return c.Leave(ctx, api.Leave{}) })
		},
	}
}
