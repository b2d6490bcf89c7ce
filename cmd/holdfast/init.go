package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newInitCommand(g *global) *cobra.Command {
	req := api.Init{}
	cmd := &cobra.Command{
		Use:   "init --pool NAME DEVICE...",
		Short: "Make this host the first of a new cluster",
		Long: `Make this host the first of a new cluster: it makes the pool's master domain of the devices, the cluster's CA and
the gossip key, and elects itself. The answer holds a token for the next host.`,
		Example: "  holdfast init --pool prod /dev/mapper/36001405a",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Devices = args
			return g.runSetup(cmd, func(ctx context.Context, c *client.Client) (api.Member, error) { return c.Init(ctx, req) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Pool, "pool", "", "name of the pool (required)")
	f.StringVar(&req.Profile, "profile", "", "compatible, fast or dev (default as the agent is configured)")
	f.StringVar(&req.Domain, "domain", "", "name of the master domain (default master)")
	f.StringVar(&req.Force, "force", "", "name of what the devices hold and may lose")
	f.BoolVar(&req.TestPool, "test-pool", false, "the pool is for tests: holdfast nemesis may inject faults; cannot be taken back")
	_ = cmd.MarkFlagRequired("pool") // fails only for a flag that does not exist
	return cmd
}

// runSetup asks for something that makes this host a member, or no longer one.
func (g *global) runSetup(cmd *cobra.Command, ask func(context.Context, *client.Client) (api.Member, error)) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	m, err := ask(cmd.Context(), c)
	if err != nil {
		return err
	}
	return g.show(cmd, m, func() *table { return memberFields(m) })
}

func memberFields(m api.Member) *table {
	t := fields("HOST", m.Host, "HOST ID", fmt.Sprint(m.HostID), "POOL", m.Pool, "DOMAIN", m.Domain)
	if m.Token != "" {
		t.add("JOIN TOKEN", m.Token)
	}
	if m.Left {
		t.add("LEFT", yes(m.Left))
	}
	return t
}
