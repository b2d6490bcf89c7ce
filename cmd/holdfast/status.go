package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newStatusCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the whole pool on one screen, with reasons for what is not well",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			s, _, err := c.Status(cmd.Context(), client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			if g.output == "json" {
				return writeJSON(cmd.OutOrStdout(), s)
			}
			return printStatus(cmd.OutOrStdout(), s)
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func consistentFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "consistent", false, "make sure that the answer is not older than the question")
}

// printStatus prints the screen, worst news last, where the eye is.
func printStatus(w io.Writer, s api.Status) error {
	if !s.Member {
		fmt.Fprintf(w, "Host %s runs holdfast %s and is not a member of a cluster.\n", printable(s.Host), printable(s.Version))
		fmt.Fprintln(w, "Next: holdfast init --pool NAME on the first host, holdfast join ADDRESS --token-file FILE on a further one.")
		return nil
	}
	blocks := []*table{statusHead(s), hostTable(s.Hosts, s.Time), domainTable(s.Domains)}
	for _, t := range blocks {
		if err := t.write(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return printWarnings(w, s.Warnings)
}

func statusHead(s api.Status) *table {
	return fields(
		"POOL", poolLine(s.Pool),
		"SPM", spmLine(s),
		"RAFT", raftLine(s.Raft),
		"VOLUMES", fmt.Sprint(s.Volumes),
		"ANSWERED BY", fmt.Sprintf("%s (%s)", s.Host, s.Version),
	)
}

func poolLine(p api.Pool) string {
	line := fmt.Sprintf("%s (%s), profile %s", p.Name, p.ID, p.Profile)
	if p.TestPool {
		line += ", a test pool"
	}
	return line
}

func spmLine(s api.Status) string {
	if s.SPM.Host == "" {
		return withReason(fmt.Sprintf("none, last epoch %d, desired %s", s.SPM.Epoch, s.SPM.Desired), s.SPM.Reason)
	}
	line := fmt.Sprintf("%s (host id %d), %s at epoch %d since %s", s.SPM.Host, s.SPM.HostID, s.SPM.State, s.SPM.Epoch, ago(s.SPM.Since, s.Time))
	return withReason(line, s.SPM.Reason)
}

func raftLine(r api.Raft) string {
	if !r.Quorum {
		return fmt.Sprintf("NO QUORUM, term %d, index %d, %d voters", r.Term, r.Index, r.Voters)
	}
	return fmt.Sprintf("leader %s, term %d, index %d, %d voters", r.Leader, r.Term, r.Index, r.Voters)
}

func withReason(s, reason string) string {
	if reason == "" {
		return s
	}
	return s + ": " + reason
}

func printWarnings(w io.Writer, ws []api.Warning) error {
	if len(ws) == 0 {
		_, err := fmt.Fprintln(w, "All is well.")
		return err
	}
	t := &table{head: []string{"NOT WELL", "WHAT", "WHY", "NEXT STEP"}}
	for _, x := range ws {
		t.add(x.Severity, x.Subject, x.Message, x.NextStep)
	}
	return t.write(w)
}
