package lvm2

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Defaults of Create: what VDSM uses.
const (
	DefaultExtentSize   = 128 << 20
	DefaultMetadataSize = 128 << 20
	alignment           = 1 << 20
	firstMDA            = 4096
)

// CreateOptions say what volume group to make.
type CreateOptions struct {
	Name         string
	ID           string   // hyphenated or not; random when empty
	PVIDs        []string // ids of the physical volumes; random when nil
	ExtentSize   int64    // bytes; default 128 MiB
	MetadataSize int64    // bytes of each of the two metadata areas per device; default 128 MiB
	Tags         []string
	Devices      []blockdev.Device
	DeviceHints  []string // paths recorded in the text, for people; default the names of the devices
	Host         string   // recorded as the creator; default the machine's name
	Now          time.Time
	Description  string
	IOTimeout    time.Duration
	// Force makes the group although a device is a physical volume already. What it belonged to is destroyed.
	Force bool

	align int64 // tests only: makes small rings possible; default 1 MiB
}

// withDefaults fills in what is zero and refuses what cannot be.
func (o CreateOptions) withDefaults() (CreateOptions, error) {
	if o.ExtentSize == 0 {
		o.ExtentSize = DefaultExtentSize
	}
	if o.MetadataSize == 0 {
		o.MetadataSize = DefaultMetadataSize
	}
	if o.align == 0 {
		o.align = alignment
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	if o.ID == "" {
		o.ID = NewID()
	}
	if o.Description == "" {
		o.Description = "create volume group"
	}
	for i, d := range o.Devices {
		if len(o.DeviceHints) <= i {
			o.DeviceHints = append(o.DeviceHints[:i:i], d.Name())
		}
		if len(o.PVIDs) <= i {
			o.PVIDs = append(o.PVIDs[:i:i], NewID())
		}
	}
	return o, o.validate()
}

func (o *CreateOptions) validate() (err error) {
	if o.ID, err = canonicalID(o.ID); err != nil {
		return err
	}
	if err := CheckName(o.Name); err != nil {
		return err
	}
	o.PVIDs = slices.Clone(o.PVIDs)
	for i := range o.PVIDs {
		if o.PVIDs[i], err = canonicalID(o.PVIDs[i]); err != nil {
			return err
		}
	}
	if o.Tags, err = mergeTags(nil, o.Tags); err != nil {
		return err
	}
	power := o.ExtentSize > 0 && o.ExtentSize&(o.ExtentSize-1) == 0
	switch {
	case len(o.Devices) == 0 || len(o.PVIDs) != len(o.Devices) || len(o.DeviceHints) != len(o.Devices):
		return fmt.Errorf("%w: %d devices, %d ids, %d hints", ErrInvalid, len(o.Devices), len(o.PVIDs), len(o.DeviceHints))
	case o.ExtentSize < 4096 || !power && o.ExtentSize%(128<<10) != 0:
		return fmt.Errorf("%w: extent size %d is neither a power of two nor a multiple of 128 KiB", ErrInvalid, o.ExtentSize)
	case o.MetadataSize < minMDA || o.MetadataSize > 1<<32 || o.MetadataSize%4096 != 0:
		return fmt.Errorf("%w: metadata areas of %d bytes", ErrInvalid, o.MetadataSize)
	}
	return nil
}

// Create makes physical volumes of the devices and a volume group of them the way VDSM does: two metadata areas per
// device, in use on the first device only, no autoactivation. The label of the first device is written last, so a
// crash before that leaves no volume group. guard may be nil before any lease exists.
//
// Foreign signatures other than LVM2's are the caller's business (blockdev.Identify).
func Create(ctx context.Context, o CreateOptions, guard blockdev.Guard) (*Group, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("create volume group: %w", err)
	}
	opt := Options{IOTimeout: o.IOTimeout, Host: o.Host}.withDefaults()
	c := creation{o: o, w: writer{guard, opt.IOTimeout}}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("create volume group %s: %w", o.Name, err)
	}
	return OpenWith(ctx, o.Devices, opt)
}

// creation is a volume group in the making.
type creation struct {
	o    CreateOptions
	w    writer
	pvs  []PV
	mdas [][]byteRange // per device
	text []byte
}

func (c *creation) run(ctx context.Context) error {
	for i := range c.o.Devices {
		if err := c.checkFree(ctx, c.o.Devices[i]); err != nil {
			return err
		}
		if err := c.layout(i); err != nil {
			return err
		}
	}
	if err := c.makeText(); err != nil {
		return err
	}
	for i := range c.o.Devices {
		if err := c.writeAreas(ctx, i); err != nil {
			return err
		}
	}
	for i := range slices.Backward(c.o.Devices) {
		if err := c.writeLabel(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// checkFree refuses a device that is a physical volume, and one that was given twice.
func (c *creation) checkFree(ctx context.Context, dev blockdev.Device) error {
	n := 0
	for _, d := range c.o.Devices {
		if d == dev || d.Name() == dev.Name() {
			n++
		}
	}
	if n > 1 {
		return fmt.Errorf("%w: device %s is given more than once", ErrInvalid, dev.Name())
	}
	info, err := Inspect(ctx, dev)
	switch {
	case errors.Is(err, ErrNotPV) || c.o.Force && (err == nil || errors.Is(err, ErrCorrupt)):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%s is physical volume %s of volume group %q: %w; its content would be lost", dev.Name(), info.ID, info.VGName, ErrExists)
}

// layout computes where things go on device i.
func (c *creation) layout(i int) error {
	dev := c.o.Devices[i]
	size := dev.Size() / sector * sector
	start := (firstMDA + c.o.MetadataSize + c.o.align - 1) / c.o.align * c.o.align
	second := (size - c.o.MetadataSize) / c.o.align * c.o.align
	count := (second - start) / c.o.ExtentSize
	if second < start || count < 1 {
		return fmt.Errorf("%s has %d bytes, %d are needed: %w", dev.Name(), dev.Size(), start+c.o.MetadataSize+c.o.ExtentSize+c.o.align, ErrTooSmall)
	}
	c.mdas = append(c.mdas, []byteRange{{firstMDA, start - firstMDA}, {second, size - second}})
	c.pvs = append(c.pvs, PV{
		ID: c.o.PVIDs[i], Device: c.o.DeviceHints[i], DevSize: size, PEStart: start, PECount: count,
		Status: []string{"ALLOCATABLE"}, name: fmt.Sprintf("pv%d", i),
	})
	return nil
}

// makeText writes the text of the new group and checks it.
func (c *creation) makeText() error {
	vg := VG{Name: c.o.Name, PVs: c.pvs}
	for i := range vg.PVs {
		vg.PVs[i].text = pvText(&vg.PVs[i])
	}
	s := section{items: []item{
		{key: "id", raw: quote(c.o.ID)}, {key: "seqno", raw: "1"}, {key: "format", raw: `"lvm2"`},
		{key: "status", raw: `["RESIZEABLE", "READ", "WRITE"]`}, {key: "flags", raw: `["NOAUTOACTIVATE"]`},
		{key: "extent_size", raw: fmt.Sprint(c.o.ExtentSize / sector)}, {key: "max_lv", raw: "0"},
		{key: "max_pv", raw: "0"}, {key: "metadata_copies", raw: "0"},
	}}
	s.setTags(c.o.Tags)
	vg.head = s.items
	h := header{description: c.o.Description, host: c.o.Host, system: "Holdfast on " + c.o.Host, now: c.o.Now}
	c.text = vg.appendText(nil, h)
	if n := int64(len(c.text)); n > maxText(c.mdas[0][0].size) {
		return fmt.Errorf("%w: text of %d bytes", ErrMetadataFull, n)
	}
	return CheckStrict(c.text)
}

// writeAreas wipes the label of device i and writes its metadata areas: with the text on the first device, empty and
// ignored on the others.
func (c *creation) writeAreas(ctx context.Context, i int) error {
	dev := c.o.Devices[i]
	if err := c.w.zero(ctx, dev, 0, labelSectors*sector); err != nil {
		return fmt.Errorf("wipe label of %s: %w", dev.Name(), err)
	}
	for _, r := range c.mdas[i] {
		if err := c.w.zero(ctx, dev, r.off, 4096); err != nil {
			return fmt.Errorf("wipe metadata area of %s: %w", dev.Name(), err)
		}
	}
	if err := c.w.flush(ctx, dev); err != nil {
		return err
	}
	for _, r := range c.mdas[i] {
		if err := c.writeArea(ctx, dev, r, i == 0); err != nil {
			return fmt.Errorf("write metadata area of %s: %w", dev.Name(), err)
		}
	}
	return c.w.flush(ctx, dev)
}

func (c *creation) writeArea(ctx context.Context, dev blockdev.Device, r byteRange, inUse bool) error {
	h := mdaHead{area: r}
	if inUse {
		n := int64(len(c.text))
		padded := append(c.text[:n:n], make([]byte, -n&(sector-1))...)
		if err := c.w.write(ctx, dev, r.off+mdaHeader, padded); err != nil {
			return err
		}
		h.slots[0] = slot{offset: mdaHeader, size: n, sum: checksum(c.text)}
	} else {
		h.slots[0].slotFlag = slotIgnored
	}
	return c.w.write(ctx, dev, r.off, h.encode())
}

// writeLabel makes device i a physical volume that is in use.
func (c *creation) writeLabel(ctx context.Context, i int) error {
	dev := c.o.Devices[i]
	l := label{sector: labelSector, uuid: c.pvs[i].ID, deviceSize: c.pvs[i].DevSize,
		data: []byteRange{{c.pvs[i].PEStart, 0}}, mdas: c.mdas[i], extVersion: extVersion, extFlags: extUsed}
	p, err := l.encode()
	if err != nil {
		return err
	}
	if err := c.w.write(ctx, dev, labelSector*sector, p); err != nil {
		return fmt.Errorf("write label of %s: %w", dev.Name(), err)
	}
	return c.w.flush(ctx, dev)
}
