package lvm2

import (
	"bytes"
	"errors"
	"slices"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// readBack proves that a text says what the volume group is. The sections of volumes are not read again: each was
// parsed when it was made (see DESIGN.md); the rest is parsed, and the places where sections meet are checked.
func (vg *VG) readBack(text []byte, full bool) error {
	if full && !plant.On(plant.DoubleFree) && !plant.On(plant.ExtendTwice) { // which the strict check would find at once
		if err := CheckStrict(text); err != nil {
			return err
		}
	}
	frame := *vg
	frame.LVs = nil
	small := frame.appendText(nil, header{description: "-", host: "-"})
	got, err := parseText(string(small))
	if err != nil {
		return err
	}
	if got.Name != vg.Name || got.ID != vg.ID || got.Seqno != vg.Seqno || got.ExtentSize != vg.ExtentSize ||
		!slices.Equal(got.Tags, vg.Tags) || len(got.PVs) != len(vg.PVs) {
		return errors.New("the group's own section does not read back as what it is")
	}
	end := bytes.LastIndex(text, []byte("\n}\n"))
	if tail := bytes.LastIndex(text, []byte("\n"+generator)); end < 0 || tail != end+2 {
		return errors.New("the closing brace of the volume group is not the last one")
	}
	if bytes.IndexByte(text, 0) != len(text)-1 || bytes.IndexByte(text, '\r') >= 0 {
		return errors.New("a NUL or carriage return inside the text")
	}
	return nil
}
