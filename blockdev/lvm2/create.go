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
	pvs  []*freshPV
	text []byte
}

func (c *creation) run(ctx context.Context) error {
	for i, dev := range c.o.Devices {
		if err := c.checkFree(ctx, dev); err != nil {
			return err
		}
		p, err := planPV(dev, pvSizes{c.o.MetadataSize, c.o.ExtentSize, c.o.align})
		if err != nil {
			return err
		}
		p.named(fmt.Sprintf("pv%d", i), c.o.PVIDs[i], c.o.DeviceHints[i])
		c.pvs = append(c.pvs, p)
	}
	if err := c.makeText(); err != nil {
		return err
	}
	text := c.text
	for _, p := range c.pvs {
		if err := p.writeAreas(ctx, c.w, text); err != nil {
			return err
		}
		text = nil // of the first device only
	}
	for _, p := range slices.Backward(c.pvs) {
		if err := p.writeLabel(ctx, c.w); err != nil {
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

// makeText writes the text of the new group and checks it.
func (c *creation) makeText() error {
	vg := VG{Name: c.o.Name}
	for _, p := range c.pvs {
		vg.PVs = append(vg.PVs, p.pv)
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
	if n := int64(len(c.text)); n > maxText(c.pvs[0].mdas[0].size) {
		return fmt.Errorf("%w: text of %d bytes", ErrMetadataFull, n)
	}
	return CheckStrict(c.text)
}
