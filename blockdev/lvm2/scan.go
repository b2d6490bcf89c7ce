package lvm2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// mda is a metadata area as it was last read.
type mda struct {
	dev  blockdev.Device
	no   int // first or second of its physical volume
	area byteRange
	head *mdaHead // nil when the header is corrupt
	text []byte   // nil when there is none, it is ignored, or corrupt
	bad  error    // what is corrupt
}

// name says which area it is.
func (m *mda) name() string { return fmt.Sprintf("metadata area %d of %s", m.no, m.dev.Name()) }

// inUse is true for areas that take part in commits.
func (m *mda) inUse() bool { return m.head != nil && m.bad == nil && !m.head.ignored() }

// pvScan is a physical volume as it was last read.
type pvScan struct {
	dev   blockdev.Device
	label *label
	mdas  []*mda
}

// readLabel reads the label of a device.
func readLabel(ctx context.Context, dev blockdev.Device, timeout time.Duration) (*label, error) {
	if dev.Size() < labelSectors*sector {
		return nil, fmt.Errorf("%s: %w", dev.Name(), ErrNotPV)
	}
	head, err := readRange(ctx, dev, timeout, 0, labelSectors*sector)
	if err != nil {
		return nil, fmt.Errorf("read label: %w", err)
	}
	l, err := findLabel(head)
	if err != nil {
		return nil, onDevice(dev, err)
	}
	return l, nil
}

// onDevice puts the device's name into an error about bytes.
func onDevice(dev blockdev.Device, err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		c.Device = dev.Name()
		return err
	}
	return fmt.Errorf("%s: %w", dev.Name(), err)
}

// scanHeads reads the label and the headers of the metadata areas. Corrupt headers are noted, not returned; an I/O
// error is returned, because an area that cannot be read now may hold a newer state than those that can.
func scanHeads(ctx context.Context, dev blockdev.Device, timeout time.Duration) (*pvScan, error) {
	l, err := readLabel(ctx, dev, timeout)
	if err != nil {
		return nil, err
	}
	s := &pvScan{dev: dev, label: l}
	for i, r := range l.mdas {
		m := &mda{dev: dev, no: i, area: r}
		s.mdas = append(s.mdas, m)
		if err := m.readHead(ctx, timeout); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readHead reads the header of the area.
func (m *mda) readHead(ctx context.Context, timeout time.Duration) error {
	if m.area.size < 2*mdaHeader || m.area.off%sector != 0 || m.area.size%sector != 0 || m.area.off+m.area.size > m.dev.Size() {
		m.bad = &CorruptError{Device: m.dev.Name(), What: "label", Offset: sector, Length: sector,
			Reason:   fmt.Sprintf("metadata area %d+%d does not lie on the device of %d bytes", m.area.off, m.area.size, m.dev.Size()),
			Readable: "a device that shrank may come back; the other metadata area may be good"}
		return nil
	}
	p, err := readRange(ctx, m.dev, timeout, m.area.off, mdaHeader)
	if err != nil {
		return fmt.Errorf("read header of %s: %w", m.name(), err)
	}
	m.head, m.bad = decodeMDA(p, m.area)
	if m.bad != nil {
		m.head, m.bad = nil, onDevice(m.dev, m.bad)
	}
	return nil
}

// readText reads the committed text. A bad one is read again once with its header: a writer may have lapped us.
func (m *mda) readText(ctx context.Context, timeout time.Duration) error {
	for try := 0; ; try++ {
		if m.head == nil || m.bad != nil || m.head.ignored() || m.head.slots[0].empty() {
			return nil
		}
		err := m.readTextOnce(ctx, timeout)
		switch {
		case err == nil, !errors.Is(err, ErrCorrupt):
			return err
		case try > 0:
			m.bad = err
			continue
		}
		if err := m.readHead(ctx, timeout); err != nil {
			return err
		}
	}
}

func (m *mda) readTextOnce(ctx context.Context, timeout time.Duration) error {
	s := m.head.slots[0]
	a, b := pieces(m.area.size, s.offset, s.size)
	text, err := readRange(ctx, m.dev, timeout, m.area.off+a.off, a.size)
	if err == nil && b.size > 0 {
		var rest []byte
		rest, err = readRange(ctx, m.dev, timeout, m.area.off+b.off, b.size)
		text = append(text[:len(text):len(text)], rest...)
	}
	if err != nil {
		return fmt.Errorf("read text of %s: %w", m.name(), err)
	}
	if checksum(text) != s.sum {
		return &CorruptError{Device: m.dev.Name(), What: "metadata text", Offset: m.area.off + s.offset, Length: s.size,
			Reason: "checksum mismatch", Readable: "the other metadata area and older texts in the ring may be good"}
	}
	m.text = text
	return nil
}

// scanTexts reads the texts of all areas of a physical volume.
func (s *pvScan) scanTexts(ctx context.Context, timeout time.Duration) error {
	for _, m := range s.mdas {
		if err := m.readText(ctx, timeout); err != nil {
			return err
		}
	}
	return nil
}

// scanOneText reads the texts of all areas, but none that was read already: as its header says, by size and checksum.
func scanOneText(ctx context.Context, scans []*pvScan, timeout time.Duration) error {
	var read []slot
	for _, s := range scans {
		for _, m := range s.mdas {
			if m.head != nil && slices.ContainsFunc(read, m.head.slots[0].sameText) {
				continue
			}
			if err := m.readText(ctx, timeout); err != nil {
				return err
			}
			if m.text != nil {
				read = append(read, m.head.slots[0])
			}
		}
	}
	return nil
}

// same is true when nothing that a text depends on differs: label, place of the areas, committed slots.
func (s *pvScan) same(o *pvScan) bool {
	if s.label.uuid != o.label.uuid || len(s.mdas) != len(o.mdas) {
		return false
	}
	for i, m := range s.mdas {
		n := o.mdas[i]
		if m.area != n.area || (m.head == nil) != (n.head == nil) || m.bad != nil || n.bad != nil {
			return false
		}
		if m.head != nil && m.head.slots[0] != n.head.slots[0] {
			return false
		}
	}
	return true
}
