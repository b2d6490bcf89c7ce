package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/leases/keeper"
)

// newKeeperCommand is the lease keeper, a child that the agent starts for itself.
func newKeeperCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "keeper",
		Short:  "Hold the leases of the agent that started this process (not for people)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("part", "keeper")
			return keeper.Main(cmd.Context(), log, cutDevice(log))
		},
	}
}
