package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newImageCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Images: chains of volumes"}
	cmd.AddCommand(newImageListCommand(g), newImageShowCommand(g), newImageSnapshotCommand(g))
	return cmd
}

func newImageListCommand(g *global) *cobra.Command {
	var consistent bool
	var domain string
	cmd := &cobra.Command{
		Use: "list", Short: "List images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, _, err := c.Images(cmd.Context(), domain, client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			return g.show(cmd, l, func() *table { return imageTable(l) })
		},
	}
	cmd.Flags().StringVar(&domain, "domain", "", "only this domain (UUID or name)")
	consistentFlag(cmd, &consistent)
	return cmd
}

func imageTable(l []api.Image) *table {
	t := &table{head: []string{"IMAGE", "ID", "SIZE", "ALLOCATED", "VOLUMES", "LEAF", "PROBLEM"}}
	for _, i := range l {
		t.add(i.Name, i.ID, formatSize(i.Size), formatSize(i.Allocated), fmt.Sprint(len(i.Volumes)), i.Leaf, i.Problem)
	}
	return t
}

func newImageShowCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "show ID|NAME", Short: "Show an image and its chain, the leaf first", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			i, _, err := c.Image(cmd.Context(), args[0], client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			return g.show(cmd, i, func() *table { return imageFields(i) })
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func imageFields(i api.Image) *table {
	t := fields("ID", i.ID, "NAME", i.Name, "DOMAIN", i.Domain, "SIZE", formatSize(i.Size), "ALLOCATED", formatSize(i.Allocated),
		"LEAF", i.Leaf, "TEMPLATE", i.Template, "PROBLEM", i.Problem)
	for n, v := range i.Volumes {
		t.add(fmt.Sprintf("LAYER %d", len(i.Volumes)-n), fmt.Sprintf("%s %s %s %s %s", v.ID, v.Name, v.Format, v.Type, formatSize(v.Allocated)))
	}
	return t
}

func newImageSnapshotCommand(g *global) *cobra.Command {
	req, key := api.ImageSnapshot{}, ""
	cmd := &cobra.Command{
		Use:   "snapshot ID|NAME",
		Short: "Keep what an image holds now: a new leaf on its leaf",
		Long: `Make a new qcow2 volume on the leaf of an image. The old leaf keeps what it holds; whoever uses the image next writes
the new one. Where a host has the leaf attached with a QMP socket (volume attach --qmp), its guest goes over to the new leaf while it
runs. An image that is in use otherwise is refused: its guest would go on writing the old leaf.`,
		Example: "  holdfast image snapshot web1 --name web1-after-upgrade",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if host, leaf := liveLeaf(cmd.Context(), c, args[0]); leaf != "" {
				a, err := c.SnapshotVolume(cmd.Context(), leaf, host, api.VolumeSnapshot(req), key)
				if err != nil {
					return err
				}
				return g.show(cmd, a, func() *table { return attachmentFields(a) })
			}
			v, err := c.SnapshotImage(cmd.Context(), args[0], req, key)
			if err != nil {
				return err
			}
			return g.show(cmd, v, func() *table { return changedFields(v.Volume, v.Mirrored, v.Index) })
		},
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "name of the new volume (default that of the leaf)")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "repeat an earlier snapshot with its key (default a new one)")
	return cmd
}

// liveLeaf finds the leaf of an image that a guest writes whose QEMU is known, and the host; empty: there is none.
func liveLeaf(ctx context.Context, c *client.Client, image string) (host, leaf string) {
	i, _, err := c.Image(ctx, image, client.Read{})
	if err != nil {
		return "", "" // who makes the snapshot says what is wrong
	}
	all, err := c.Attachments(ctx, "")
	if err != nil {
		return "", ""
	}
	for _, a := range all.Attachments {
		if a.Volume == i.Leaf && !a.ReadOnly && a.QMP != "" {
			return a.Host, a.Volume
		}
	}
	return "", ""
}
