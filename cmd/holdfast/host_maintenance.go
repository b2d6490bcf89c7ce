package main

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// hostWait is how long the verbs about a host wait for it.
const hostWait = 30 * time.Second

func newHostMaintenanceCommand(g *global) *cobra.Command {
	req, wait := api.HostMaintain{}, hostWait
	cmd := &cobra.Command{
		Use: "maintenance NAME", Short: "Take a host out of use: the SPM role moves away first, and what is attached or held there is named",
		Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.WaitSeconds, err = waitSeconds(wait); err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			h, err := c.MaintainHost(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			if err := g.show(cmd, h, func() *table { return wishFields(h) }); err != nil || wait == 0 || h.State == api.HostMaintenance {
				return err
			}
			return fmt.Errorf("%s is not in maintenance yet: %s. It goes there by itself; holdfast host activate %s takes it back", h.Name, h.Reason, h.Name)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the pool's history")
	cmd.Flags().BoolVar(&req.Force, "force", false, "take my word that nothing uses the host any more; if something does, nobody fences it")
	cmd.Flags().DurationVar(&wait, "wait", hostWait, "how long to wait until it is there; 0: not at all")
	return cmd
}

func newHostActivateCommand(g *global) *cobra.Command {
	req, wait := api.HostActivate{}, hostWait
	cmd := &cobra.Command{
		Use: "activate NAME", Short: "Take a host back into use, and wait until it is up", Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.WaitSeconds, err = waitSeconds(wait); err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			h, err := c.ActivateHost(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			if err := g.show(cmd, h, func() *table { return wishFields(h) }); err != nil || wait == 0 || h.State == api.HostUp {
				return err
			}
			return fmt.Errorf("%s is not up yet, but %s: %s. It comes up by itself when it is well", h.Name, h.State, h.Reason)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the pool's history")
	cmd.Flags().DurationVar(&wait, "wait", hostWait, "how long to wait until it is up; 0: not at all")
	return cmd
}

// waitSeconds is a wait as the API takes it.
func waitSeconds(d time.Duration) (int, error) {
	if d < 0 || d > httpapi.MaxHostWait*time.Second {
		return 0, usagef("--wait is 0 to %ds, not %s", httpapi.MaxHostWait, d)
	}
	return int(math.Ceil(d.Seconds())), nil
}

func newHostSetCommand(g *global) *cobra.Command {
	var priority int
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Set how readily a host becomes SPM", Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		Example: "  holdfast host set h3 --priority -1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("priority") {
				return usagef("nothing to set: give --priority")
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			h, err := c.SetHost(cmd.Context(), args[0], api.HostSet{Priority: &priority})
			if err != nil {
				return err
			}
			return g.show(cmd, h, func() *table { return fields("NAME", h.Name, "SPM PRIORITY", strconv.Itoa(h.Priority)) })
		},
	}
	cmd.Flags().IntVar(&priority, "priority", 0, "of the SPM role: -1 never, 10 first; 5 is what hosts join with")
	return cmd
}

// wishFields is what matters of a host that goes out of use or comes back.
func wishFields(h api.Host) *table {
	return fields("NAME", h.Name, "STATE", h.State, "REASON", h.Reason, "SINCE", stamp(h.Since))
}
