package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newPowersaveCommand(g *global) *cobra.Command {
	var reserve int
	var idle time.Duration
	cmd := &cobra.Command{
		Use: "power-save [on|off]", Short: "Show or change the policy that switches empty spare hosts off and on again",
		Args: cobra.MaximumNArgs(1), ValidArgs: []string{"on", "off"},
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.PowersaveSet{}
			if len(args) == 1 {
				if args[0] != "on" && args[0] != "off" {
					return usagef("%q: use on or off", args[0])
				}
				on := args[0] == "on"
				req.Enabled = &on
			}
			if cmd.Flags().Changed("reserve") {
				req.Reserve = &reserve
			}
			if cmd.Flags().Changed("idle") {
				s := idle.Seconds()
				req.IdleSeconds = &s
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			var p api.Powersave
			if req == (api.PowersaveSet{}) {
				p, _, err = c.Powersave(cmd.Context(), client.Read{})
			} else {
				p, err = c.SetPowersave(cmd.Context(), req)
			}
			if err != nil {
				return err
			}
			return g.show(cmd, p, func() *table {
				return fields("ENABLED", yes(p.Enabled), "RESERVE", fmt.Sprint(p.Reserve), "IDLE", spanOf(p.IdleSeconds))
			})
		},
	}
	cmd.Flags().IntVar(&reserve, "reserve", 0, "spare hosts that stay up")
	cmd.Flags().DurationVar(&idle, "idle", 0, "how long a host must have been empty; 0s takes the default, 20m")
	return cmd
}
