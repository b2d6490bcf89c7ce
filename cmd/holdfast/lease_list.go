package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newLeaseListCommand(g *global) *cobra.Command {
	var domain string
	var startable bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the leases of a domain and who has them, as they are on the LUN", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.withLeases(cmd, domain, func(c *client.Client, id string) error {
				l, err := c.Leases(cmd.Context(), id)
				if err != nil {
					return err
				}
				return g.show(cmd, l, func() *table {
					if startable {
						return startTable(l)
					}
					return leaseTable(l)
				})
			})
		},
	}
	leaseDomainFlag(cmd, &domain)
	cmd.Flags().BoolVar(&startable, "startable", false, "show of each whether what it protects may be started elsewhere, and if not, when and why")
	return cmd
}

func leaseTable(l []api.Lease) *table {
	t := &table{head: []string{"LEASE", "STATUS", "HOLDER", "GENERATION", "VERSION", "AGE", "NOTE"}}
	for i := range l {
		t.add(l[i].ID, l[i].Status, leaseHolders(&l[i]), fmt.Sprint(l[i].Generation), fmt.Sprint(l[i].Version), leaseAge(&l[i]), leaseNote(&l[i]))
	}
	return t
}

// leaseHolders names all that have the lease.
func leaseHolders(l *api.Lease) string {
	if len(l.Sharers) == 0 {
		return l.Holder
	}
	var names []string
	for _, h := range l.Sharers {
		names = append(names, h.Host)
	}
	return strings.Join(names, ", ")
}

func leaseAge(l *api.Lease) string {
	if l.Age == 0 {
		return ""
	}
	return seconds(l.Age).String()
}

// leaseNote says what a person must know besides.
func leaseNote(l *api.Lease) string {
	switch {
	case l.Status == api.LeaseDamaged, l.Status == api.LeaseUnreadable:
		return l.Reason
	case l.HolderState == "LIVE" || l.Holder == "":
		return ""
	case l.FreeIn > 0:
		return fmt.Sprintf("%s; can be had in %s", l.Reason, seconds(l.FreeIn))
	}
	return l.Reason
}

func seconds(f float64) time.Duration {
	return time.Duration(f * float64(time.Second)).Round(100 * time.Millisecond)
}
