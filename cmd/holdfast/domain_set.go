package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
)

func newDomainSetCommand(g *global) *cobra.Command {
	var warn, critical string
	cmd := &cobra.Command{
		Use: "set ID|NAME", Short: "Set when a domain is warned of, and when it takes no new volumes", Args: cobra.ExactArgs(1),
		Example: "  holdfast domain set san1 --warn-free 15% --critical-free 20GiB",
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := domainSet(cmd, warn, critical)
			if err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			d, err := c.SetDomain(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return g.show(cmd, d, func() *table { return domainFields(d) })
		},
	}
	cmd.Flags().StringVar(&warn, "warn-free", "", "share of free space below which there is a warning, such as 10%; 0%: never")
	cmd.Flags().StringVar(&critical, "critical-free", "", "free space below which no new volumes are made, such as 5GiB; 0: never refused")
	return cmd
}

// domainSet makes a request of the flags that were given.
func domainSet(cmd *cobra.Command, warn, critical string) (api.DomainSet, error) {
	var req api.DomainSet
	if cmd.Flags().Changed("warn-free") {
		n, err := strconv.Atoi(strings.TrimSuffix(warn, "%"))
		if err != nil || n < 0 || n > 100 {
			return req, usagef("--warn-free is a share such as 10%%, not %q", warn)
		}
		req.WarnPercent = &n
	}
	if cmd.Flags().Changed("critical-free") {
		n, err := parseSize(critical)
		if err != nil {
			return req, usageError{err}
		}
		req.CriticalFree = &n
	}
	if req == (api.DomainSet{}) {
		return req, usagef("nothing to set: give --warn-free, --critical-free or both")
	}
	return req, nil
}
