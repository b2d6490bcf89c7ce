package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newJoinCommand(g *global) *cobra.Command {
	var token, file string
	cmd := &cobra.Command{
		Use:   "join ADDRESS --token TOKEN",
		Short: "Make this host a member of a cluster",
		Long: `Make this host a member of a cluster. ADDRESS is the cluster address (host:port) of any member; the token comes from
holdfast init or holdfast operator token create, works once, and pins the cluster's CA.`,
		Example: "  holdfast join 10.0.0.1:7420 --join-token-file /root/join.token",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			secret, err := joinToken(token, file)
			if err != nil {
				return err
			}
			req := api.Join{Address: args[0], Token: secret}
			return g.runSetup(cmd, func(ctx context.Context, c *client.Client) (api.Member, error) { return c.Join(ctx, req) })
		},
	}
	cmd.Flags().StringVar(&token, "token", "", "the join token; other users of this machine can see it while the command runs")
	cmd.Flags().StringVar(&file, "join-token-file", "", "file with the join token")
	return cmd
}

func joinToken(token, file string) (string, error) {
	if (token == "") == (file == "") {
		return "", usagef("give the join token with --token or with --join-token-file")
	}
	if token != "" {
		return token, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", usagef("reading the join token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
