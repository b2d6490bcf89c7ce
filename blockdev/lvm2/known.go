package lvm2

import (
	"errors"
	"slices"
	"strings"
)

// known are the volumes of an earlier state, in its order. Reading a text again after an extension is mostly finding that
// nothing else has changed: comparing costs a tenth of parsing.
type known struct {
	before *VG
	lvs    []*LV // those not met yet
	gone   []*LV // those passed over: the text has them no more, or not as they were
	fresh  []*LV // those that were not known
	same   bool  // the physical volumes are the earlier ones, so that the numbers in segments mean the same
	seen   bool  // same was found out
}

// ahead is how many volumes that are gone are looked past.
const ahead = 8

// parseKnowing parses a text, taking from before what stands in it unchanged. Volumes are never changed once they are made, so two states may share
// them; a text with volumes that refer to others is parsed from nothing.
func parseKnowing(text string, before *VG) (*VG, error) {
	if before == nil {
		return parseText(text)
	}
	p := &vgParser{cursor: cursor{s: text}, known: &known{before: before, lvs: before.LVs}}
	vg, err := p.parse()
	if err != nil { // the text may still be good, and whatever is wrong is told as ever
		return parseText(text)
	}
	return vg, nil
}

// errRefers says that nothing may be taken over from before.
var errRefers = errors.New("a volume refers to others")

// mayShare refuses a text in which volumes may refer to others, which would be marked although another state has them too.
func (k *known) mayShare(refs []string) error {
	if k != nil && len(refs) > 0 {
		return errRefers
	}
	return nil
}

// next returns the volume at the cursor if it is known, and passes over it.
func (k *known) next(p *vgParser) *LV {
	if k == nil || !k.samePVs(p) {
		return nil
	}
	p.skip()
	rest := p.s[p.pos:]
	for i, lv := range k.lvs[:min(ahead, len(k.lvs))] {
		if !lv.Foreign && lv.text != "" && strings.HasPrefix(rest, lv.text) {
			k.gone = append(k.gone, k.lvs[:i]...)
			k.lvs = k.lvs[i+1:]
			p.pos += len(lv.text)
			return lv
		}
	}
	return nil
}

// samePVs tells whether the segments of known volumes mean the same as before.
func (k *known) samePVs(p *vgParser) bool {
	if !k.seen {
		k.seen = true
		k.same = slices.EqualFunc(k.before.PVs, p.vg.PVs, func(a, b PV) bool { return a.name == b.name && a.ID == b.ID })
	}
	return k.same
}

// missed takes in a volume that was parsed because it is new or has changed. It gets a text of its own: a part of the whole text would
// keep all of that in memory for as long as the volume stays as it is, and with it the text of every change.
func (k *known) missed(p *vgParser, lv *LV) (*LV, error) {
	if k == nil {
		return lv, nil
	}
	if len(k.lvs) > 0 && k.lvs[0].Name == lv.Name {
		k.gone = append(k.gone, k.lvs[0])
		k.lvs = k.lvs[1:]
	}
	lv, err := p.vg.parseLV(strings.Clone(lv.text))
	k.fresh = append(k.fresh, lv)
	return lv, err
}
