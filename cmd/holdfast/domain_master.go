package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
)

func newDomainSetMasterCommand(g *global) *cobra.Command {
	var lost api.MasterReconstruct
	var reconstruct bool
	cmd := &cobra.Command{
		Use: "set-master ID|NAME", Short: "Make a domain the pool's master, which holds the SPM lease",
		Long: `Make a domain the pool's master, which holds the SPM lease and the mailbox.

As long as the present master can be read the SPM does it in order, and volumes cannot be changed for a moment only. A change that is
cut short is finished or undone by the next SPM.

With --reconstruct the present master is given up because it is lost for good. Every host must be proven to write nothing under its
lease any more: hosts that answer give their word, of the others storage or a recorded proof must say so. A refusal names each host that
is not, why, and what would help. --force with --dead HOST takes your word for a host that does not answer; if it still writes, data is lost.`,
		Example: "  holdfast domain set-master san2\n  holdfast domain set-master san2 --reconstruct --reason \"array 1 burnt\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reconstruct {
				return reconstructMaster(g, cmd, args[0], lost)
			}
			if lost.Force || len(lost.Dead) > 0 {
				return usagef("--force and --dead are for --reconstruct")
			}
			return setMaster(g, cmd, args[0], api.MasterSet{Reason: lost.Reason})
		},
	}
	f := cmd.Flags()
	f.StringVar(&lost.Reason, "reason", "", "why, for the pool's history; needed with --reconstruct")
	f.BoolVar(&reconstruct, "reconstruct", false, "the present master is lost for good")
	f.BoolVar(&lost.Force, "force", false, "take your word about the hosts that --dead names")
	f.StringSliceVar(&lost.Dead, "dead", nil, "host that does not answer and, by your word, writes nothing any more")
	return cmd
}

func setMaster(g *global, cmd *cobra.Command, ref string, req api.MasterSet) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	m, err := c.SetMaster(cmd.Context(), ref, req)
	if err != nil {
		return err
	}
	return g.show(cmd, m, func() *table { return masterFields(m) })
}

func reconstructMaster(g *global, cmd *cobra.Command, ref string, req api.MasterReconstruct) error {
	switch {
	case strings.TrimSpace(req.Reason) == "":
		return usagef("--reconstruct gives the present master up: --reason is needed")
	case len(req.Dead) > 0 && !req.Force:
		return usagef("--dead takes your word against what is known: --force is needed")
	}
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	m, err := c.ReconstructMaster(cmd.Context(), ref, req)
	if err != nil {
		return err
	}
	return g.show(cmd, m, func() *table { return reconstructedTable(m) })
}

func masterFields(m api.MasterChanged) *table {
	return fields("MASTER", m.Master, "BEFORE", m.Former, "VERSION", fmt.Sprint(m.Version), "EPOCH", fmt.Sprint(m.Epoch),
		"NOTHING SERVED FOR", (time.Duration(m.TookMS) * time.Millisecond).String(), "MIRRORED", fmt.Sprint(m.Mirrored))
}

func reconstructedTable(m api.MasterReconstructed) *table {
	t := &table{head: []string{"HOST", "PROOF", "EVIDENCE"}}
	for _, h := range m.Promised {
		t.add(h, "word", "it answers, and writes nothing under the lost master")
	}
	for _, p := range m.Proofs {
		t.add(p.Host, p.Kind, p.Evidence)
	}
	return t
}
