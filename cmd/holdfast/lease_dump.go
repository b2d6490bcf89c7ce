package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/direct"
)

// leaseVolumes are the volumes of a block domain that hold leases.
var leaseVolumes = []string{"ids", "leases", "xleases"}

// leaseDump is one run of the verb.
type leaseDump struct {
	tool    direct.Tool
	geo     leases.Geometry
	ballots bool
	json    bool
	out     io.Writer
	report  dumpedDevice
	damaged bool
}

func newLeaseDumpCommand(g *global) *cobra.Command {
	d := &leaseDump{}
	var sector, align string
	cmd := &cobra.Command{
		Use:   "dump DEVICE[:OFFSET[:SIZE]]...",
		Short: "Print the lockspaces, resources and requests on a device, ours or oVirt's",
		Long: `Print the lockspaces, resources and requests on a device, ours or oVirt's, in the layout of sanlock's dump. Reads only, needs no
agent, and goes on where something is damaged: it tells which bytes. Status 1 when anything was.

DEVICE is a file or volume with lease areas, or the LUN of a block domain; give all LUNs of a domain that has several. Of a
LUN the volumes ids, leases and xleases are shown. OFFSET and SIZE are bytes, or MiB with an M.`,
		Example: "  holdfast lease dump /dev/mapper/36001405a\n  holdfast lease dump /rhev/data-center/mnt/x/dom_md/ids -o json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := g.checkOutput(); err != nil {
				return err
			}
			if err := d.sizes(sector, align); err != nil {
				return err
			}
			d.out, d.json = cmd.OutOrStdout(), g.output == "json"
			d.tool = direct.Default(slog.New(slog.DiscardHandler))
			return d.run(cmd.Context(), args)
		},
	}
	cmd.Flags().BoolVar(&d.ballots, "ballots", false, "print the hosts' ballots too")
	cmd.Flags().StringVar(&sector, "sector-size", "", "512 or 4096 (default what the first record says)")
	cmd.Flags().StringVar(&align, "area-size", "", "size of a lease area, 1M to 8M (default what the first record says)")
	return cmd
}

// sizes takes the two flags, which go together.
func (d *leaseDump) sizes(sector, align string) error {
	if sector == "" && align == "" {
		return nil
	}
	n, err := strconv.Atoi(sector)
	d.geo = leases.Geometry{SectorSize: n, AlignSize: cOffset(align)}
	if err != nil || d.geo.Validate() != nil {
		return usagef("--sector-size %q with --area-size %q: they go together, as 512 with 1M, or 4096 with 1M, 2M, 4M or 8M", sector, align)
	}
	return nil
}

func (d *leaseDump) run(ctx context.Context, args []string) (err error) {
	var devs []blockdev.Device
	defer func() {
		for _, dev := range devs {
			err = errors.Join(err, dev.Close())
		}
	}()
	path, r := dumpTarget(args[0])
	for _, a := range args {
		p, more := dumpTarget(a)
		if len(args) > 1 && more != (direct.Range{}) {
			return usagef("%s: with several devices, which are the LUNs of one domain, there is no offset", a)
		}
		dev, err := openForReading(ctx, p)
		if err != nil {
			return err
		}
		devs = append(devs, dev)
	}
	d.report.Device = path
	if err := d.dump(ctx, devs, r); err != nil {
		return err
	}
	if d.json {
		if err := writeJSON(d.out, d.report); err != nil {
			return err
		}
	}
	if d.damaged {
		return errQuiet
	}
	return nil
}

// dump shows the lease volumes of LUNs, or the device itself.
func (d *leaseDump) dump(ctx context.Context, devs []blockdev.Device, r direct.Range) error {
	if r == (direct.Range{}) {
		_, err := lvm2.Inspect(ctx, devs[0])
		if err == nil {
			return d.luns(ctx, devs)
		}
		if !errors.Is(err, lvm2.ErrNotPV) && len(devs) == 1 {
			d.note("the LVM2 metadata of %s cannot be read: %v", devs[0].Name(), err)
		}
	}
	if len(devs) > 1 {
		return usagef("%s is no LUN of a domain: several devices are dumped one at a time", devs[0].Name())
	}
	return d.part(ctx, "", devs[0], r)
}

// luns shows the volumes that hold leases, as far as they are there.
func (d *leaseDump) luns(ctx context.Context, devs []blockdev.Device) error {
	group, err := lvm2.Open(ctx, devs)
	if errors.Is(err, lvm2.ErrMissingPV) {
		return fmt.Errorf("%w: give all LUNs of the domain, or DEVICE:OFFSET", err)
	}
	if err != nil {
		return err
	}
	for _, w := range group.Warnings() {
		d.note("%s", w)
	}
	d.report.VolumeGroup = group.VG().Name
	found := false
	for _, name := range leaseVolumes {
		if group.VG().LV(name) == nil {
			continue
		}
		found = true
		dev, err := group.Device(name)
		if err != nil {
			d.note("volume %s: %v", name, err)
			continue
		}
		if err := d.part(ctx, name, dev, direct.Range{}); err != nil {
			d.note("volume %s: %v", name, err)
		}
	}
	if !found {
		return fmt.Errorf("volume group %s on %s has no volume ids, leases or xleases: it is no storage domain", group.VG().Name, devs[0].Name())
	}
	return nil
}

// note tells of damage that belongs to no bytes of a lease.
func (d *leaseDump) note(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	d.damaged = true
	d.report.Damage = append(d.report.Damage, dumpedDamage{What: what})
	if !d.json {
		fmt.Fprintf(d.out, "DAMAGED: %s\n", printable(what))
	}
}

// part shows one device or volume.
func (d *leaseDump) part(ctx context.Context, name string, dev blockdev.Device, r direct.Range) error {
	r.Geometry, r.Tolerant = d.geo, true
	geo, err := d.tool.Geometry(ctx, dev, dev.SectorSize() == 512, r)
	if err != nil {
		return fmt.Errorf("%w: set --sector-size and --area-size", err)
	}
	if r.Size == 0 {
		r.Size = max(dev.Size()-r.Offset, int64(geo.SectorSize))
	}
	p := &dumpedPart{Volume: name, Size: dev.Size(), SectorSize: geo.SectorSize, AreaSize: geo.AlignSize, Areas: []dumpedArea{}}
	print := &dumper{out: d.out, level: 1, name: func(n leases.Name) string { return printable(n.String()) }}
	if d.ballots {
		print.level = 2
	}
	if !d.json {
		if name != "" {
			fmt.Fprintf(d.out, "volume %s of %s, %s\n", name, printable(d.report.VolumeGroup), formatSize(dev.Size()))
		}
		print.head()
	}
	err = d.tool.Scan(ctx, dev, r, geo, func(a *direct.Area) error { return d.area(p, print, a) })
	d.report.Parts = append(d.report.Parts, p)
	return err
}

func (d *leaseDump) area(p *dumpedPart, print *dumper, a *direct.Area) error {
	d.damaged = d.damaged || len(a.Damage) > 0
	if d.json {
		p.add(a)
		return nil
	}
	if err := print.area(a); err != nil {
		return err
	}
	for _, w := range a.Damage {
		fmt.Fprintf(d.out, "DAMAGED: bytes %d..%d: %s\n", w.Offset, w.Offset+int64(w.Length)-1, printable(w.What))
	}
	return nil
}

// openForReading opens a device that others are using.
func openForReading(ctx context.Context, path string) (blockdev.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return blockdev.Open(ctx, path, blockdev.Options{ReadOnly: true})
}
