package lvm2

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// candidate is a text that could be the state of the volume group.
type candidate struct {
	m  *mda
	vg *VG
}

// state is a volume group bound to its devices.
type state struct {
	vg       *VG
	scans    []*pvScan // in the order of the devices given
	pvs      []*pvScan // in the order of vg.PVs
	warnings []string
}

// choose picks the text that counts and binds it to the devices. before is an earlier state of the group, or nil.
func choose(scans []*pvScan, before *VG) (*state, error) {
	st := &state{scans: scans}
	all, err := st.candidates(before)
	if err != nil {
		return nil, err
	}
	best := all[0]
	for _, c := range all[1:] {
		switch {
		case c.vg.ID != best.vg.ID:
			return nil, fmt.Errorf("%s belongs to volume group %s, %s to %s: %w", best.m.dev.Name(), best.vg.Name, c.m.dev.Name(), c.vg.Name, ErrForeign)
		case c.vg.Seqno > best.vg.Seqno:
			best = c
		case c.vg.Seqno == best.vg.Seqno && !bytes.Equal(c.m.text, best.m.text):
			return nil, fmt.Errorf("%w: %s and %s have different texts with sequence number %d; keep the devices as they are and restore one by hand",
				ErrSplitBrain, best.m.name(), c.m.name(), c.vg.Seqno)
		}
	}
	for _, c := range all {
		if c.vg.Seqno < best.vg.Seqno {
			st.warnf("%s is at sequence number %d, the volume group at %d; the next commit brings it up", c.m.name(), c.vg.Seqno, best.vg.Seqno)
		}
	}
	st.vg = best.vg
	return st, st.bind()
}

func (st *state) warnf(format string, args ...any) {
	st.warnings = append(st.warnings, fmt.Sprintf(format, args...))
}

// candidates parses every text. The same text in two areas is parsed once.
func (st *state) candidates(before *VG) ([]candidate, error) {
	var all []candidate
	var damage []error
	for _, s := range st.scans {
		for _, m := range s.mdas {
			var c candidate
			if m.text != nil && m.bad == nil {
				c, m.bad = parseCandidate(m, all, before)
			}
			if m.bad != nil {
				damage = append(damage, m.bad)
				st.warnf("%v", m.bad)
			}
			if c.vg != nil {
				all = append(all, c)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.Join(append([]error{ErrNoVG}, damage...)...)
	}
	return all, nil
}

// parseCandidate parses the text of an area that has one, or finds it among those parsed already.
func parseCandidate(m *mda, done []candidate, before *VG) (candidate, error) {
	for _, c := range done {
		if bytes.Equal(c.m.text, m.text) {
			return candidate{m, c.vg}, nil
		}
	}
	vg, err := parseAfter(m.text, before)
	if err != nil {
		return candidate{}, m.locate(err)
	}
	return candidate{m, vg}, nil
}

// locate turns an offset in the text into one on the device.
func (m *mda) locate(err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		c.Device = m.dev.Name()
		at := m.head.slots[0].offset + c.Offset
		if at >= m.area.size {
			at -= m.area.size - mdaHeader
		}
		c.Offset = m.area.off + at
	}
	return err
}

// bind finds the device of every physical volume of the text.
func (st *state) bind() error {
	byID := map[string]*pvScan{}
	for _, s := range st.scans {
		if o := byID[s.label.uuid]; o != nil {
			return fmt.Errorf("%w: %s and %s both are physical volume %s", ErrSplitBrain, o.dev.Name(), s.dev.Name(), s.label.uuid)
		}
		byID[s.label.uuid] = s
	}
	var missing []MissingPV
	shrunk := false
	for i := range st.vg.PVs {
		pv := &st.vg.PVs[i]
		s := byID[pv.ID]
		if s == nil || pv.missing() {
			missing = append(missing, MissingPV{ID: pv.ID, Hint: pv.Device})
			continue
		}
		delete(byID, pv.ID)
		st.pvs = append(st.pvs, s)
		shrunk = st.measure(pv, s) || shrunk
	}
	for _, s := range byID {
		st.warnf("%s is not part of volume group %s any more; its metadata is outdated", s.dev.Name(), st.vg.Name)
	}
	if len(missing) > 0 {
		return &MissingPVError{VG: st.vg.Name, PVs: missing}
	}
	if len(st.vg.foreign) > 0 {
		return fmt.Errorf("volume group %s: %w: %s", st.vg.Name, ErrForeign, strings.Join(st.vg.foreign, ", "))
	}
	if shrunk {
		return st.vg.buildFree()
	}
	return nil
}

// measure finds how many extents really lie on the device: the text does not say it reliably. shrunk says that some do not.
func (st *state) measure(pv *PV, s *pvScan) (shrunk bool) {
	end := s.dev.Size()
	for _, m := range s.mdas {
		if m.area.off >= pv.PEStart && m.area.off < end {
			end = m.area.off
		}
	}
	pv.usable = min(pv.PECount, max(end-pv.PEStart, 0)/st.vg.ExtentSize)
	if pv.usable < pv.PECount {
		st.warnf("%s has room for %d extents, the metadata claims %d; the rest is not used", s.dev.Name(), pv.usable, pv.PECount)
	}
	return pv.usable < pv.PECount
}

// mdasInUse are the areas that take part in a commit.
func (st *state) mdasInUse() []*mda {
	var out []*mda
	for _, s := range st.pvs {
		for _, m := range s.mdas {
			if m.inUse() {
				out = append(out, m)
			}
		}
	}
	return out
}
