package lvm2

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

// freshPV is a physical volume that is to be written: where its areas lie, and what the text will say of it.
type freshPV struct {
	dev  blockdev.Device
	pv   PV
	mdas []byteRange
}

// pvSizes are the numbers of which the layout of a physical volume is made.
type pvSizes struct {
	metadata int64 // bytes of each of the two metadata areas
	extent   int64
	align    int64
}

// planPV computes where things go on a device: one metadata area in front of the extents and one behind them.
func planPV(dev blockdev.Device, s pvSizes) (*freshPV, error) {
	size := dev.Size() / sector * sector
	start := (firstMDA + s.metadata + s.align - 1) / s.align * s.align
	second := (size - s.metadata) / s.align * s.align
	count := (second - start) / s.extent
	if second < start || count < 1 {
		return nil, fmt.Errorf("%s has %d bytes, %d are needed: %w", dev.Name(), dev.Size(), start+s.metadata+s.extent+s.align, ErrTooSmall)
	}
	return &freshPV{
		dev:  dev,
		pv:   PV{DevSize: size, PEStart: start, PECount: count, Status: []string{"ALLOCATABLE"}, usable: count},
		mdas: []byteRange{{firstMDA, start - firstMDA}, {second, size - second}},
	}, nil
}

// named completes what the text says of it.
func (p *freshPV) named(name, id, hint string) {
	p.pv.name, p.pv.ID, p.pv.Device = name, id, hint
	p.pv.text = pvText(&p.pv)
}

// writeAreas wipes the label and writes the metadata areas: with the text, or without one empty and ignored.
func (p *freshPV) writeAreas(ctx context.Context, w writer, text []byte) error {
	if err := p.wipeLabel(ctx, w); err != nil {
		return err
	}
	for _, r := range p.mdas {
		if err := w.zero(ctx, p.dev, r.off, 4096); err != nil {
			return fmt.Errorf("wipe metadata area of %s: %w", p.dev.Name(), err)
		}
	}
	if err := w.flush(ctx, p.dev); err != nil {
		return err
	}
	for _, r := range p.mdas {
		if err := p.writeArea(ctx, w, r, text); err != nil {
			return fmt.Errorf("write metadata area of %s: %w", p.dev.Name(), err)
		}
	}
	return w.flush(ctx, p.dev)
}

// wipeLabel makes the device no physical volume any more.
func (p *freshPV) wipeLabel(ctx context.Context, w writer) error {
	if err := w.zero(ctx, p.dev, 0, labelSectors*sector); err != nil {
		return fmt.Errorf("wipe label of %s: %w", p.dev.Name(), err)
	}
	return nil
}

func (p *freshPV) writeArea(ctx context.Context, w writer, r byteRange, text []byte) error {
	h := mdaHead{area: r}
	if n := int64(len(text)); n > 0 {
		padded := append(text[:n:n], make([]byte, -n&(sector-1))...)
		if err := w.write(ctx, p.dev, r.off+mdaHeader, padded); err != nil {
			return err
		}
		h.slots[0] = slot{offset: mdaHeader, size: n, sum: checksum(text)}
	} else {
		h.slots[0].slotFlag = slotIgnored
	}
	return w.write(ctx, p.dev, r.off, h.encode())
}

// label is what makes it a physical volume that is in use.
func (p *freshPV) label() *label {
	return &label{sector: labelSector, uuid: p.pv.ID, deviceSize: p.pv.DevSize,
		data: []byteRange{{p.pv.PEStart, 0}}, mdas: p.mdas, extVersion: extVersion, extFlags: extUsed}
}

// writeLabel makes the device a physical volume that is in use.
func (p *freshPV) writeLabel(ctx context.Context, w writer) error {
	s, err := p.label().encode()
	if err != nil {
		return err
	}
	if err := w.write(ctx, p.dev, labelSector*sector, s); err != nil {
		return fmt.Errorf("write label of %s: %w", p.dev.Name(), err)
	}
	return w.flush(ctx, p.dev)
}
