package main

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newLeaseCreateCommand(g *global) *cobra.Command {
	var domain string
	cmd := &cobra.Command{
		Use:   "create [ID]",
		Short: "Make a lease; one that exists is left as it is",
		Long: `Make a lease in a domain's volume of external leases. The id is a UUID, usually that of the VM; without one a new UUID is
taken. A lease that exists already is left as it is, and that is no failure.`,
		Example: "  holdfast lease create 6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.NewString(), error(nil)
			if len(args) > 0 {
				id, err = checkLeaseID(args[0])
			}
			if err != nil {
				return err
			}
			return g.withLeases(cmd, domain, func(c *client.Client, dom string) error {
				l, err := c.CreateLease(cmd.Context(), dom, id)
				if err != nil {
					return err
				}
				return g.show(cmd, l, func() *table {
					return fields("ID", l.ID, "DOMAIN", l.Domain, "OFFSET", fmt.Sprint(l.Offset), "CREATED", yesBut(l.Created, "it was there already"))
				})
			})
		},
	}
	leaseDomainFlag(cmd, &domain)
	return cmd
}

// yesBut is yes, or no with the reason.
func yesBut(ok bool, why string) string {
	if ok {
		return "yes"
	}
	return "no, " + why
}

func newLeaseDeleteCommand(g *global) *cobra.Command {
	var domain string
	var force bool
	cmd := &cobra.Command{
		Use: "delete ID", Short: "Delete a lease that nobody has; one that does not exist is no failure", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := checkLeaseID(args[0])
			if err != nil {
				return err
			}
			return g.withLeases(cmd, domain, func(c *client.Client, dom string) error {
				l, err := c.DeleteLease(cmd.Context(), dom, id, force)
				if err != nil {
					return err
				}
				return g.show(cmd, l, func() *table {
					return fields("ID", l.ID, "DOMAIN", l.Domain, "DELETED", yesBut(l.Deleted, "it was not there"))
				})
			})
		},
	}
	leaseDomainFlag(cmd, &domain)
	cmd.Flags().BoolVar(&force, "force", false, "delete it although it is held, or nobody can tell; what runs under it is protected no longer")
	return cmd
}

func newLeaseRebuildCommand(g *global) *cobra.Command {
	var domain string
	var req api.LeaseRebuild
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Make a domain's index of leases agree with what lies on the LUN",
		Long: `Make a domain's index of leases agree with their resources: missing resources are written, resources without a lease
cleared, and records that cannot be read made anew from the resources. Refused while a lease is held.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.withLeases(cmd, domain, func(c *client.Client, dom string) error {
				l, err := c.RebuildLeases(cmd.Context(), dom, req)
				if err != nil {
					return err
				}
				return g.show(cmd, l, func() *table {
					return fields("DOMAIN", l.Domain, "LEASES", fmt.Sprint(l.Leases), "WRITTEN", strings.Join(l.Written, ", "),
						"RECOVERED", strings.Join(l.Recovered, ", "), "RECORDS FREED", fmt.Sprint(l.Freed), "RESOURCES CLEARED", fmt.Sprint(l.Cleared))
				})
			})
		},
	}
	leaseDomainFlag(cmd, &domain)
	cmd.Flags().BoolVar(&req.Force, "force", false, "rebuild although leases are held or damaged, or the index has no head that could be read")
	return cmd
}
