package lvm2

import (
	"context"

	"github.com/holdfast-io/holdfast/blockdev"
)

// PVInfo is what one device alone tells.
type PVInfo struct {
	ID          string
	Used        bool   // the header says that a volume group uses it
	VGName      string // empty when the device carries no metadata, as the second and later ones of a VDSM domain
	VGID        string
	Seqno       uint32
	DeviceSize  int64 // as recorded in the header
	PEStart     int64
	MDAs        int
	MDAsInUse   int
	Description string // what is corrupt, empty when nothing is
}

// Inspect reads the label of a device, and the metadata if it carries any. ErrNotPV when there is no label.
func Inspect(ctx context.Context, dev blockdev.Device) (*PVInfo, error) {
	timeout := Options{}.withDefaults().IOTimeout
	s, err := scanHeads(ctx, dev, timeout)
	if err != nil {
		return nil, err
	}
	if err := s.scanTexts(ctx, timeout); err != nil {
		return nil, err
	}
	info := &PVInfo{ID: s.label.uuid, Used: s.label.used(), DeviceSize: s.label.deviceSize, MDAs: len(s.mdas)}
	if len(s.label.data) > 0 {
		info.PEStart = s.label.data[0].off
	}
	for _, m := range s.mdas {
		info.add(m)
	}
	return info, nil
}

// add puts in what one metadata area tells.
func (i *PVInfo) add(m *mda) {
	var c candidate
	err := m.bad
	if m.text != nil && err == nil {
		c, err = parseCandidate(m, nil, nil)
	}
	if err != nil {
		i.Description = err.Error()
		return
	}
	if m.inUse() {
		i.MDAsInUse++
	}
	if c.vg != nil && (i.VGID == "" || c.vg.Seqno > i.Seqno) {
		i.VGName, i.VGID, i.Seqno = c.vg.Name, c.vg.ID, c.vg.Seqno
	}
}
