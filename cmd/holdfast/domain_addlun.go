package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
)

func newDomainExtendCommand(g *global) *cobra.Command {
	req := api.DomainExtend{}
	cmd := &cobra.Command{
		Use:   "extend ID|NAME --lun PATH",
		Short: "Add a LUN to a domain that is in use; its space is there at once",
		Long: `Add a LUN to a domain. Nothing has to stop: when the answer comes, the space can be used.

Every host that is up must see the LUN; the refusal names those that do not. A LUN that holds anything is refused as with
domain create. What a crash left of an earlier attempt is no obstacle: give the same command again.`,
		Example: "  holdfast domain extend san1 --lun /dev/mapper/36001405b",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			d, err := c.ExtendDomain(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return g.show(cmd, d, func() *table {
				t := domainFields(d.Domain)
				t.add("MIRRORED", yes(d.Mirrored))
				t.add("INDEX", fmt.Sprint(d.Index))
				return t
			})
		},
	}
	cmd.Flags().StringVar(&req.LUN, "lun", "", "path or nbd:// address of the LUN (required)")
	cmd.Flags().StringVar(&req.Force, "force", "", "name of what the LUN holds and may lose")
	_ = cmd.MarkFlagRequired("lun") // fails only for a flag that does not exist
	return cmd
}
