package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newDomainCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "domain", Short: "Storage domains"}
	cmd.AddCommand(newDomainCreateCommand(g), newDomainListCommand(g), newDomainShowCommand(g), newDomainSetCommand(g), newDomainExtendCommand(g), newDomainSetMasterCommand(g),
		newDomainActivateCommand(g), newDomainDeactivateCommand(g), newDomainCheckCommand(g))
	return cmd
}

func newDomainCreateCommand(g *global) *cobra.Command {
	req := api.DomainCreate{}
	cmd := &cobra.Command{
		Use:   "create DEVICE...",
		Short: "Make a storage domain of one or more LUNs; the first one becomes the master",
		Long: `Make a storage domain of one or more LUNs. The first domain of a pool becomes its master, which holds the SPM lease.

A LUN that holds anything (a file system, a volume group, another pool's domain) is refused. The refusal names what it
found; to destroy it, give exactly that name with --force.`,
		Example: "  holdfast domain create --name san1 /dev/mapper/36001405a",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			req.Devices = args
			d, err := c.CreateDomain(cmd.Context(), req)
			if err != nil {
				return err
			}
			return g.show(cmd, d, func() *table { return domainFields(d.Domain) })
		},
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "name of the domain (required)")
	cmd.Flags().StringVar(&req.Force, "force", "", "name of what the LUNs hold and may lose")
	_ = cmd.MarkFlagRequired("name") // fails only for a flag that does not exist
	return cmd
}

func newDomainListCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the domains", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, _, err := c.Domains(cmd.Context(), client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			return g.show(cmd, l, func() *table { return domainTable(l) })
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func domainTable(l []api.Domain) *table {
	t := &table{head: []string{"DOMAIN", "ID", "TYPE", "ROLE", "STATUS", "SIZE", "FREE", "VOLUMES", "REASON"}}
	for _, d := range l {
		t.add(d.Name, d.ID, fmt.Sprintf("%s v%d", d.Type, d.Version), d.Role, d.Status, formatSize(d.Size), formatSize(d.Free), fmt.Sprint(d.Volumes), d.Reason)
	}
	return t
}

func newDomainShowCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "show ID|NAME", Short: "Show a domain", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			d, _, err := c.Domain(cmd.Context(), args[0], client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			return g.show(cmd, d, func() *table { return domainFields(d) })
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func domainFields(d api.Domain) *table {
	return fields(
		"ID", d.ID, "NAME", d.Name, "TYPE", d.Type, "VERSION", fmt.Sprint(d.Version), "ROLE", d.Role, "STATUS", d.Status,
		"REASON", d.Reason, "SINCE", stamp(d.Since), "FAILING HOSTS", strings.Join(d.FailingHosts, ", "), "DEADLINE", stamp(d.Deadline),
		"SIZE", formatSize(d.Size), "FREE", formatSize(d.Free), "EXTENT SIZE", formatSize(d.ExtentSize),
		"SECTOR SIZE", formatSize(int64(d.SectorSize)), "LUNS", strings.Join(d.LUNs, ", "), "VOLUMES", fmt.Sprint(d.Volumes),
		"WAITING", fmt.Sprintf("%d for %s", d.Waiting, formatSize(d.Needed)), "WARN FREE", fmt.Sprintf("%d%%", d.WarnPercent),
		"CRITICAL FREE", formatSize(d.CriticalFree), "EPOCH", fmt.Sprint(d.Epoch),
	)
}

func newDomainCheckCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "check ID|NAME", Short: "List every inconsistency of a domain with its repair; changes nothing",
		Long: "List every inconsistency of a domain with its repair. Reads the LUNs and changes nothing. Exit status 1 when something was found.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			k, err := c.CheckDomain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return showCheck(g, cmd, k)
		},
	}
}

func showCheck(g *global, cmd *cobra.Command, k api.Check) error {
	err := g.show(cmd, k, func() *table {
		if len(k.Findings) == 0 {
			return fields("CLEAN", k.Domain)
		}
		t := &table{head: []string{"SEVERITY", "WHAT", "WHERE", "REPAIR"}}
		for _, f := range k.Findings {
			t.add(f.Severity, f.What, f.Where, f.Repair)
		}
		return t
	})
	if err == nil && !k.Clean {
		return errQuiet
	}
	return err
}
