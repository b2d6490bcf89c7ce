package main

import "github.com/spf13/cobra"

// newLeaseCommand is the noun of all verbs about leases. Each verb is in a file of its own and is listed here.
func newLeaseCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "lease", Short: "Leases of VMs and jobs, which belong to no volume"}
	cmd.AddCommand(leaseVerbs(g)...)
	return cmd
}

// leaseVerbs are the verbs of the noun.
func leaseVerbs(*global) []*cobra.Command { return nil }
