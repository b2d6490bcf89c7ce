package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newVolumeAttachCommand(g *global) *cobra.Command {
	var req api.VolumeAttach
	var host string
	cmd := &cobra.Command{
		Use: "attach ID|NAME", Short: "Make a volume and its chain usable on a host, and say where", Args: cobra.ExactArgs(1),
		Long: `Make a volume and its chain usable on a host, and say where: a block device, or the address of an export. With --qmp the host
talks to the QEMU that uses the volume: it learns how far a block device is written, lets a guest go on that was paused for
lack of space, and makes snapshots under it. The socket need not be there yet. Attach once more to name another one.`,
		Example: "  holdfast volume attach web1 -o json\n  holdfast volume attach web1 --qmp /run/web1.qmp",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			a, err := c.AttachVolume(cmd.Context(), args[0], host, req)
			if err != nil {
				return err
			}
			return g.show(cmd, a, func() *table { return attachmentFields(a) })
		},
	}
	cmd.Flags().BoolVar(&req.ReadOnly, "read-only", false, "for reading; several hosts may have it so")
	cmd.Flags().StringVar(&req.Mapper, "mapper", "", "dm (device-mapper) or nbd (default dm where host and LUNs allow it)")
	cmd.Flags().StringVar(&req.QMP, "qmp", "", "QMP socket of the guest, for this program alone")
	cmd.Flags().StringVar(&req.QMPNode, "node", "", "QEMU's node on the volume's device (default the one in blockdev)")
	hostFlag(cmd, &host)
	return cmd
}

func newVolumeDetachCommand(g *global) *cobra.Command {
	var req api.VolumeDetach
	var host string
	cmd := &cobra.Command{
		Use: "detach ID|NAME", Short: "Undo attach: flush, end the export, give the leases back", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			d, err := c.DetachVolume(cmd.Context(), args[0], host, req)
			if err != nil {
				return err
			}
			return g.show(cmd, d, func() *table { return fields("DETACHED", d.Volume, "HOST", d.Host) })
		},
	}
	cmd.Flags().BoolVar(&req.Force, "force", false, "although somebody is connected, who is cut off")
	hostFlag(cmd, &host)
	return cmd
}

func hostFlag(cmd *cobra.Command, host *string) {
	cmd.Flags().StringVar(host, "host", "", "the host to do it on (default the one that is asked)")
}

func attachmentFields(a api.Attachment) *table {
	t := fields("VOLUME", a.Volume, "NAME", a.Name, "HOST", a.Host, "MODE", attachMode(a), "STATE", a.State, "PROBLEM", a.Problem,
		"URI", a.URI, "PATH", a.Path, "FORMAT", a.Format)
	for _, l := range a.Chain[min(1, len(a.Chain)):] {
		t.add("BACKING", fmt.Sprintf("%s (%s, read-only)", cmp.Or(l.URI, l.Path), l.Format))
	}
	for _, node := range a.BlockDev {
		if b, err := json.Marshal(node); err == nil {
			t.add("BLOCKDEV", string(b))
		}
	}
	if a.QMP != "" {
		t.add("QMP", qmpState(a))
	}
	if a.WaitingFor != "" {
		t.add("WAITING SINCE", stamp(a.WaitingSince))
		t.add("WAITING FOR", a.WaitingFor)
	}
	return t
}

// qmpState says how it stands with the guest's monitor.
func qmpState(a api.Attachment) string {
	switch {
	case a.QMPConnected:
		return a.QMP + " (connected)"
	case a.QMPProblem != "":
		return a.QMP + " (" + a.QMPProblem + ")"
	}
	return a.QMP
}

func attachMode(a api.Attachment) string {
	if a.ReadOnly {
		return "read-only"
	}
	return "read-write"
}

// attachedVolume is a volume and where it is attached.
type attachedVolume struct {
	api.Volume
	Attached []api.Attachment `json:"attached"`
	// Silent are the hosts that did not say what is attached there.
	Silent []string `json:"silent,omitempty"`
}

func withAttachments(v api.Volume, all api.Attachments) attachedVolume {
	out := attachedVolume{Volume: v, Attached: []api.Attachment{}, Silent: all.Silent}
	for _, a := range all.Attachments {
		if a.Volume == v.ID && a.Domain == v.Domain {
			out.Attached = append(out.Attached, a)
		}
	}
	return out
}

// where says in one line where a volume is attached.
func (v attachedVolume) where() string {
	var out []string
	for _, a := range v.Attached {
		s := a.Host
		switch {
		case a.Problem != "":
			s += " (" + a.Problem + ")"
		case a.WaitingFor != "":
			s += " (waits for space)"
		case a.ReadOnly:
			s += " (read-only)"
		}
		out = append(out, s)
	}
	for _, h := range v.Silent {
		out = append(out, h+"?")
	}
	return strings.Join(out, ", ")
}

func (v attachedVolume) fields() *table {
	t := volumeFields(v.Volume)
	t.add("ATTACHED", v.where())
	return t
}

// attachedHost is a host and what is attached there.
type attachedHost struct {
	api.Host
	Attached []api.Attachment `json:"attached"` // null: the host did not say
}

// hostWithAttached asks the host itself. One that does not answer is shown all the same.
func hostWithAttached(ctx context.Context, c *client.Client, h api.Host) attachedHost {
	out := attachedHost{Host: h}
	if l, err := c.Attachments(ctx, ""); err == nil && !slices.Contains(l.Silent, h.Name) {
		out.Attached = slices.DeleteFunc(l.Attachments, func(a api.Attachment) bool { return a.Host != h.Name })
	}
	return out
}

func (h attachedHost) fields() *table {
	t := hostFields(h.Host)
	if h.Attached == nil {
		t.add("ATTACHED", "unknown: the host does not say")
	}
	for _, a := range h.Attached {
		t.add("ATTACHED", fmt.Sprintf("%s (%s, %s)", cmp.Or(a.Name, a.Volume), attachMode(a), cmp.Or(a.Problem, a.WaitingFor, a.State)))
	}
	return t
}

// showAttachedList is a list of volumes with where each is attached.
func showAttachedList(g *global, cmd *cobra.Command, l []api.Volume, all api.Attachments) error {
	out := make([]attachedVolume, 0, len(l))
	for _, v := range l {
		out = append(out, withAttachments(v, all))
	}
	return g.show(cmd, out, func() *table {
		t := volumeTable(l)
		t.head = append(slices.Clone(t.head), "ATTACHED")
		for i := range t.rows {
			t.rows[i] = append(t.rows[i], out[i].where())
		}
		return t
	})
}
