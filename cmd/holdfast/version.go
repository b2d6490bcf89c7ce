package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

func newVersionCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := g.checkOutput(); err != nil {
				return err
			}
			v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return g.show(cmd, v, func() *table {
				return fields("VERSION", v["version"], "GO", v["go"], "PLATFORM", v["platform"])
			})
		},
	}
}
