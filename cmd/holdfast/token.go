package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
)

func newTokenCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Tokens for joining and for the API"}
	cmd.AddCommand(newTokenCreateCommand(g), newTokenListCommand(g), newTokenRevokeCommand(g))
	return cmd
}

func newTokenCreateCommand(g *global) *cobra.Command {
	var role string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create", Short: "Create a token; its secret is shown once and kept nowhere", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl < time.Second {
				return usagef("--ttl must be at least 1s, not %s", ttl)
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			t, err := c.CreateToken(cmd.Context(), api.TokenCreate{Role: role, TTLSeconds: int64(ttl / time.Second)})
			if err != nil {
				return err
			}
			return g.show(cmd, t, func() *table {
				return fields("TOKEN", t.Secret, "ID", t.ID, "ROLE", t.Role, "EXPIRES", stamp(t.Expires))
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", api.RoleJoin, "join (one use), admin or read")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it is good for")
	return cmd
}

func newTokenListCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			return g.show(cmd, l, func() *table {
				t := &table{head: []string{"ID", "ROLE", "EXPIRES", "USED BY", "USED AT"}}
				for _, x := range l {
					t.add(x.ID, x.Role, stamp(x.Expires), x.UsedBy, stamp(x.UsedAt))
				}
				return t
			})
		},
	}
}

func newTokenRevokeCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Take a token back", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			return g.show(cmd, map[string]string{"revoked": args[0]}, func() *table { return fields("REVOKED", args[0]) })
		},
	}
}
