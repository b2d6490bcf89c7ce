package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
)

func newOperatorCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "operator", Short: "Raft, tokens and certificates"}
	raft := &cobra.Command{Use: "raft", Short: "The Raft configuration"}
	raft.AddCommand(newRaftListCommand(g), newRaftTransferCommand(g))
	cmd.AddCommand(raft, newTokenCommand(g), newCertificateCommand(g))
	return cmd
}

func newRaftListCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "list-peers", Short: "List the members of the Raft configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, err := c.RaftPeers(cmd.Context())
			if err != nil {
				return err
			}
			return g.show(cmd, l, func() *table { return peerTable(l) })
		},
	}
}

func newRaftTransferCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "transfer [HOST]", Short: "Make another host the leader", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.RaftTransfer{}
			if len(args) > 0 {
				req.To = args[0]
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, err := c.TransferLeadership(cmd.Context(), req)
			if err != nil {
				return err
			}
			return g.show(cmd, l, func() *table { return peerTable(l) })
		},
	}
}

func peerTable(l []api.RaftPeer) *table {
	t := &table{head: []string{"HOST", "ADDRESS", "VOTER", "LEADER"}}
	for _, p := range l {
		t.add(p.Name, p.Address, yes(p.Voter), yes(p.Leader))
	}
	return t
}
