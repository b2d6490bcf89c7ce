package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newVolumeCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Short: "Volumes"}
	cmd.AddCommand(newVolumeCreateCommand(g), newVolumeListCommand(g), newVolumeShowCommand(g), newVolumeUpdateCommand(g),
		newVolumeExtendCommand(g), newVolumeDeleteCommand(g), newVolumeAttachCommand(g), newVolumeDetachCommand(g))
	return cmd
}

// volumeFlags are the flags of volume create.
type volumeFlags struct {
	req     api.VolumeCreate
	size    string
	initial string
	key     string
}

func newVolumeCreateCommand(g *global) *cobra.Command {
	f := &volumeFlags{}
	cmd := &cobra.Command{
		Use:     "create --name NAME --size SIZE",
		Short:   "Create a volume",
		Example: "  holdfast volume create --name web1 --size 10GiB --format qcow2 -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(g, cmd) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.req.Name, "name", "", "name of the volume (required)")
	fl.StringVar(&f.size, "size", "", "size the guest sees, such as 10GiB (required)")
	fl.StringVar(&f.req.Format, "format", api.FormatQCOW2, "qcow2 or raw")
	fl.StringVar(&f.req.Allocation, "allocation", "", "sparse or preallocated (default sparse for qcow2, preallocated for raw)")
	fl.StringVar(&f.req.Domain, "domain", "", "UUID or name of the domain (default the master domain)")
	fl.StringVar(&f.req.Description, "description", "", "text for people")
	fl.StringVar(&f.req.Image, "image", "", "UUID of the image (default a new one)")
	fl.StringVar(&f.req.Parent, "parent", "", "UUID of the volume below")
	fl.StringVar(&f.initial, "initial-size", "", "what a sparse volume gets at once")
	fl.StringVar(&f.key, "idempotency-key", "", "repeat an earlier create with its key (default a new one)")
	_ = cmd.MarkFlagRequired("name") // fails only for a flag that does not exist
	_ = cmd.MarkFlagRequired("size")
	return cmd
}

func (f *volumeFlags) run(g *global, cmd *cobra.Command) error {
	var err error
	if f.req.Size, err = parseSize(f.size); err != nil {
		return usageError{err}
	}
	if f.initial != "" {
		if f.req.InitialSize, err = parseSize(f.initial); err != nil {
			return usageError{err}
		}
	}
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	v, err := c.CreateVolume(cmd.Context(), f.req, f.key)
	if err != nil {
		return err
	}
	return g.show(cmd, v, func() *table { return changedFields(v.Volume, v.Mirrored, v.Index) })
}

// changedFields are a volume and how its change was recorded.
func changedFields(v api.Volume, mirrored bool, index uint64) *table {
	t := volumeFields(v)
	t.add("MIRRORED", yes(mirrored))
	t.add("INDEX", fmt.Sprint(index))
	return t
}

func newVolumeListCommand(g *global) *cobra.Command {
	var consistent, attached bool
	f := client.VolumeFilter{}
	cmd := &cobra.Command{
		Use: "list", Short: "List volumes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, _, err := c.Volumes(cmd.Context(), f, client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			if !attached {
				return g.show(cmd, l, func() *table { return volumeTable(l) })
			}
			at, err := c.Attachments(cmd.Context(), "")
			if err != nil {
				return err
			}
			return showAttachedList(g, cmd, l, at)
		},
	}
	cmd.Flags().StringVar(&f.Domain, "domain", "", "only this domain (UUID or name)")
	cmd.Flags().StringVar(&f.Image, "image", "", "only this image")
	cmd.Flags().BoolVar(&attached, "attached", false, "say where each volume is attached; asks every host")
	consistentFlag(cmd, &consistent)
	return cmd
}

func volumeTable(l []api.Volume) *table {
	t := &table{head: []string{"VOLUME", "ID", "FORMAT", "SIZE", "ALLOCATED", "LEGALITY", "EPOCH"}}
	for _, v := range l {
		t.add(v.Name, v.ID, v.Format, formatSize(v.Size), formatSize(v.Allocated), v.Legality, fmt.Sprint(v.Epoch))
	}
	return t
}

func newVolumeShowCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "show ID|NAME", Short: "Show a volume", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			v, _, err := c.Volume(cmd.Context(), args[0], client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			at, err := c.Attachments(cmd.Context(), "")
			if err != nil {
				return err
			}
			shown := withAttachments(v, at)
			return g.show(cmd, shown, func() *table { return shown.fields() })
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func volumeFields(v api.Volume) *table {
	return fields(
		"ID", v.ID, "NAME", v.Name, "DESCRIPTION", v.Description, "IMAGE", v.Image, "DOMAIN", v.Domain, "FORMAT", v.Format,
		"ALLOCATION", v.Allocation, "SIZE", formatSize(v.Size), "ALLOCATED", formatSize(v.Allocated), "PARENT", v.Parent,
		"TYPE", v.Type, "LEGALITY", v.Legality, "SLOT", fmt.Sprint(v.Slot), "EPOCH", fmt.Sprint(v.Epoch), "CREATED", stamp(v.Created),
	)
}

func newVolumeUpdateCommand(g *global) *cobra.Command {
	var name, description string
	cmd := &cobra.Command{
		Use: "update ID|NAME", Short: "Rename a volume, or change its description", Args: cobra.ExactArgs(1),
		Example: "  holdfast volume update web1 --name web2 --description 'for the new shop'",
		RunE: func(cmd *cobra.Command, args []string) error {
			var req api.VolumeUpdate
			if cmd.Flags().Changed("name") {
				req.Name = &name
			}
			if cmd.Flags().Changed("description") {
				req.Description = &description
			}
			if req == (api.VolumeUpdate{}) {
				return usagef("nothing to change: give --name, --description or both")
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			v, err := c.UpdateVolume(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return g.show(cmd, v, func() *table { return changedFields(v.Volume, v.Mirrored, v.Index) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&description, "description", "", "new text for people; empty removes it")
	return cmd
}

func newVolumeDeleteCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID|NAME", Short: "Delete a volume and its data", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			v, err := c.DeleteVolume(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return g.show(cmd, v, func() *table { return fields("DELETED", v.ID, "NAME", v.Name, "MIRRORED", yes(v.Mirrored)) })
		},
	}
}
