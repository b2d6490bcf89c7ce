package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newHostCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "Hosts of the pool"}
	cmd.AddCommand(newHostListCommand(g), newHostShowCommand(g), newHostSetCommand(g), newHostMaintenanceCommand(g), newHostActivateCommand(g),
		newHostConfirmCommand(g), newHostRemoveCommand(g))
	return cmd
}

func newHostListCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the hosts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, _, err := c.Hosts(cmd.Context(), client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			return g.show(cmd, l, func() *table { return hostTable(l, time.Now()) })
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func hostTable(l []api.Host, now time.Time) *table {
	t := &table{head: []string{"HOST", "ID", "STATE", "SINCE", "ROLES", "WATCHDOG", "ADDRESS", "REASON"}}
	for _, h := range l {
		t.add(h.Name, fmt.Sprint(h.HostID), h.State, ago(h.Since, now), hostRoles(h), hostWatchdog(h), h.Address, h.Reason)
	}
	return t
}

// hostWatchdog says what resets the host.
func hostWatchdog(h api.Host) string {
	switch {
	case h.Watchdog == "":
		return ""
	case h.Unprotected:
		return "none: unprotected"
	}
	return fmt.Sprintf("%s, %d s", h.Watchdog, h.WatchdogTime)
}

func hostRoles(h api.Host) string {
	var roles []string
	if h.SPM {
		roles = append(roles, "spm")
	}
	if h.Leader {
		roles = append(roles, "leader")
	}
	return strings.Join(roles, ",")
}

func newHostShowCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a host and why it is in its state", Args: cobra.ExactArgs(1),
		ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			h, _, err := c.Host(cmd.Context(), args[0], client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			shown := hostWithAttached(cmd.Context(), c, h)
			return g.show(cmd, shown, func() *table { return shown.fields() })
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func newHostConfirmCommand(g *global) *cobra.Command {
	req := api.HostConfirm{}
	cmd := &cobra.Command{
		Use: "confirm-rebooted NAME", Short: "Give your word that a host was rebooted and writes nothing any more, so that its leases can be taken",
		Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			done, err := c.ConfirmRebooted(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return g.show(cmd, done, func() *table { return spacesTable(done.Lockspaces) })
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "how you know it, for the pool's history (required)")
	cmd.Flags().BoolVar(&req.Force, "force", false, "although storage says that the host lives; if it still writes, data is lost")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func newHostRemoveCommand(g *global) *cobra.Command {
	req := api.HostRemove{}
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Take a host out of the cluster that is dead and cannot leave by itself",
		Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Force && req.Reason == "" {
				return usagef("--force takes your word for it: --reason is needed")
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			done, err := c.RemoveHost(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return g.show(cmd, done, func() *table { return spacesTable(done.Lockspaces) })
		},
	}
	cmd.Flags().BoolVar(&req.Force, "force", false, "although storage does not say that the host is dead; if it still writes, data is lost")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "how you know it, for the pool's history; needed with --force")
	return cmd
}

func spacesTable(spaces []api.SpaceOutcome) *table {
	t := &table{head: []string{"DOMAIN", "ITS RECORD", "MESSAGE"}}
	for _, l := range spaces {
		t.add(l.Domain, l.Result, l.Message)
	}
	return t
}

func hostFields(h api.Host) *table {
	rows := []string{"NAME", h.Name, "HOST ID", fmt.Sprint(h.HostID), "STATE", h.State, "REASON", h.Reason, "SINCE", stamp(h.Since)}
	if h.Deadline != nil {
		rows = append(rows, "UNTIL", stamp(*h.Deadline))
	}
	if w := h.Wish; w != nil {
		rows = append(rows, "WANTED", fmt.Sprintf("%s by %s: %s", w.Want, w.By, w.Reason))
	}
	rows = append(rows,
		"ROLES", hostRoles(h), "CLUSTER ADDRESS", h.Address, "GOSSIP ADDRESS", h.Gossip, "API", h.HTTP,
		"GENERATION", fmt.Sprint(h.Generation), "SPM PRIORITY", fmt.Sprint(h.Priority), "GOSSIP SAYS ALIVE", yes(h.Alive),
		"JOINED", stamp(h.Joined), "WATCHDOG", hostWatchdog(h))
	for _, w := range h.Witnesses {
		rows = append(rows, "WITNESS", fmt.Sprintf("%s: %s since %s", strings.TrimSpace(w.Kind+" "+w.Subject), w.State, stamp(w.Since)))
	}
	return fields(rows...)
}

// completeHosts offers host names to the shell; silence when no agent answers.
func (g *global) completeHosts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	g.timeout = time.Second
	c, err := g.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	l, _, err := c.Hosts(cmd.Context(), client.Read{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, h := range l {
		names = append(names, h.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
