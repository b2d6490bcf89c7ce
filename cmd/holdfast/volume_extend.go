package main

import (
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
)

func newVolumeExtendCommand(g *global) *cobra.Command {
	var req api.VolumeExtend
	var size string
	var wait, full time.Duration
	cmd := &cobra.Command{
		Use: "extend ID|NAME --size SIZE", Short: "Give a thin volume more space on its domain", Args: cobra.ExactArgs(1),
		Long: `Give a thin volume more space on its domain. What the guest sees of the volume stays the same. A volume that is as large already
is left alone, so the same request again is harmless.

The host that is asked reaches the SPM over the network or through the storage, whichever answers, and needs no quorum. When the
domain has no room the SPM keeps the request and serves it as soon as there is.`,
		Example: "  holdfast volume extend web1 --size 20GiB",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Size, err = parseSize(size); err != nil {
				return usageError{err}
			}
			req.WaitSeconds, req.SecondsToFull = int(math.Ceil(wait.Seconds())), full.Seconds()
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			v, err := c.ExtendVolume(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return g.show(cmd, v, func() *table { return changedFields(v.Volume, v.Mirrored, v.Index) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&size, "size", "", "what the volume is to have at least, such as 20GiB (required)")
	fl.DurationVar(&wait, "wait", 0, "how long to wait for space when there is none, at most 40s")
	fl.BoolVar(&req.Paused, "paused", false, "a guest stands still until then: it goes first when space is short")
	fl.DurationVar(&full, "full-in", 0, "how soon a guest will stand still: who does soonest goes first")
	fl.BoolVar(&req.ThroughStorage, "through-storage", false, "ask by the storage mailbox alone, to see that it works")
	_ = cmd.MarkFlagRequired("size") // fails only for a flag that does not exist
	return cmd
}
