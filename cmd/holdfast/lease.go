package main

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// newLeaseCommand is the noun of all verbs about leases. Each is listed here.
func newLeaseCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "lease", Short: "Leases of VMs and jobs, which belong to no volume"}
	cmd.AddCommand(leaseVerbs(g)...)
	return cmd
}

// leaseVerbs are the verbs of the noun.
func leaseVerbs(g *global) []*cobra.Command {
	return []*cobra.Command{
		newLeaseCreateCommand(g), newLeaseListCommand(g), newLeaseShowCommand(g), newLeaseDeleteCommand(g), newLeaseRebuildCommand(g),
		newLeaseAcquireCommand(g), newLeaseReleaseCommand(g), newLeaseExecChildCommand(),
		newLeaseDumpCommand(g),
	}
}

// leaseDomainFlag adds the flag that says which domain's leases are meant.
func leaseDomainFlag(cmd *cobra.Command, domain *string) {
	cmd.Flags().StringVar(domain, "domain", "", "UUID or name of the domain (default the master domain)")
}

// leaseDomain is the domain that a flag names, or the master.
func leaseDomain(ctx context.Context, c *client.Client, flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	l, _, err := c.Domains(ctx, client.Read{})
	if err != nil {
		return "", err
	}
	for _, d := range l {
		if d.Role == "master" {
			return d.ID, nil
		}
	}
	return "", api.Errorf(api.CodeNoPool, "holdfast init makes the pool, holdfast domain create its first domain", "the pool has no master domain")
}

// checkLeaseID refuses what the agent would refuse, and makes the rest lower case.
func checkLeaseID(id string) (string, error) {
	if len(id) != 36 || uuid.Validate(id) != nil {
		return "", usagef("a lease id is a UUID such as %s, not %q: VDSM takes nothing else", uuid.NewString(), id)
	}
	return strings.ToLower(id), nil
}

// withLeases runs fn with a client and the domain that is meant.
func (g *global) withLeases(cmd *cobra.Command, domain string, fn func(c *client.Client, domain string) error) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := leaseDomain(cmd.Context(), c, domain)
	if err != nil {
		return err
	}
	return fn(c, id)
}
