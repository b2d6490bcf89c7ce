package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newLeaseShowCommand(g *global) *cobra.Command {
	var domain string
	cmd := &cobra.Command{
		Use: "show [DOMAIN/]ID", Short: "Show a lease, who has it, and whether what it protects may be started elsewhere", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := leaseArg(args[0], &domain)
			if err != nil {
				return err
			}
			return g.withLeases(cmd, domain, func(c *client.Client, dom string) error {
				l, err := c.Lease(cmd.Context(), dom, id)
				if err != nil {
					return err
				}
				return g.show(cmd, l, func() *table { return leaseFields(&l) })
			})
		},
	}
	leaseDomainFlag(cmd, &domain)
	return cmd
}

func leaseFields(l *api.Lease) *table {
	t := fields("ID", l.ID, "DOMAIN", l.Domain, "STATUS", l.Status, "HOLDER", leaseHolders(l), "GENERATION", fmt.Sprint(l.Generation),
		"VERSION", fmt.Sprint(l.Version), "OFFSET", fmt.Sprint(l.Offset), "TAKEABLE", yes(l.Takeable))
	for _, more := range [][2]string{{"LAST HOLDER", l.LastHolder}, {"HOLDER STATE", l.HolderState}, {"AGE", leaseAge(l)}, {"REASON", l.Reason}} {
		if more[1] != "" {
			t.add(more[0], more[1])
		}
	}
	if l.FreeIn > 0 {
		t.add("FREE IN", seconds(l.FreeIn).String())
	}
	if l.Start != nil {
		addStart(t, l.Start)
	}
	return t
}

// addStart answers whether what the lease protects may be started elsewhere.
func addStart(t *table, s *api.LeaseStart) {
	t.add("STARTABLE", yes(s.Startable))
	for _, more := range [][2]string{{"WHY", s.Why}, {"AWAITS", s.Awaits}, {"IN", startIn(s)}, {"PROOF", startProofWords(s)}, {"NEXT STEP", s.NextStep}} {
		if more[1] != "" {
			t.add(more[0], more[1])
		}
	}
}

// startIn is the countdown, empty where there is none.
func startIn(s *api.LeaseStart) string {
	if s.In <= 0 {
		return ""
	}
	return seconds(s.In).String()
}

func startProofWords(s *api.LeaseStart) string {
	if s.Proof == nil {
		return ""
	}
	w := fmt.Sprintf("%s at %s", s.Proof.Kind, stamp(s.Proof.Time))
	if s.Proof.By != "" {
		w += " by " + s.Proof.By
	}
	return w
}

// startTable answers the same for many leases.
func startTable(l []api.Lease) *table {
	t := &table{head: []string{"LEASE", "STARTABLE", "IN", "HOLDER", "WHY", "AWAITS"}}
	for i := range l {
		s := l[i].Start
		if s == nil {
			t.add(l[i].ID, "?", "", leaseHolders(&l[i]), "the host that was asked does not know the question; ask one with this release", "")
			continue
		}
		t.add(l[i].ID, yes(s.Startable), startIn(s), leaseHolders(&l[i]), s.Why, s.Awaits)
	}
	return t
}

// leaseArg takes a lease id that may have its domain in front.
func leaseArg(arg string, domain *string) (string, error) {
	at := strings.LastIndexByte(arg, '/')
	if at < 0 {
		return checkLeaseID(arg)
	}
	if *domain != "" && *domain != arg[:at] {
		return "", usagef("the domain is %q by --domain and %q by the argument: give one", *domain, arg[:at])
	}
	if *domain = arg[:at]; *domain == "" {
		return "", usagef("%q begins with a slash: give DOMAIN/ID, or the ID alone", arg)
	}
	return checkLeaseID(arg[at+1:])
}
