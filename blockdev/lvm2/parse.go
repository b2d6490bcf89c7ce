package lvm2

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// contents is what every text declares itself to be.
const contents = "Text Format Volume Group"

// ParseText reads a metadata text, in the form found on disk or in the one of vgcfgbackup. Errors are *CorruptError;
// a volume group that must not be written is no error here, see VG.Foreign.
func ParseText(text []byte) (*VG, error) {
	return parseAfter(text, nil)
}

// parseAfter is ParseText for who has an earlier state of the group: volumes whose text is the same are taken from there.
func parseAfter(text []byte, before *VG) (*VG, error) {
	vg, err := parseKnowing(string(text), before)
	if err != nil {
		return nil, textError(err, int64(len(text)))
	}
	vg.textSize = int64(len(text))
	return vg, nil
}

// textError turns a parser's error into one that says which bytes are in doubt.
func textError(err error, size int64) error {
	e := &CorruptError{What: "metadata text", Length: size, Reason: err.Error(),
		Readable: "older texts in the ring are still readable (pvck --dump metadata_search)"}
	var syn *syntaxError
	if errors.As(err, &syn) {
		e.Offset, e.Length, e.Reason = int64(syn.off), 1, syn.reason
	}
	return e
}

// vgParser holds what is needed while one text is read.
type vgParser struct {
	cursor
	vg      *VG
	seen    vgSeen
	lvStart int // where logical_volumes begins when it stands before physical_volumes
	pvIndex map[string]int
	refs    []string // raw segments of volumes that are not plain
	known   *known   // nil: nothing is known of before
}

// vgSeen says which required keys were met.
type vgSeen struct {
	id, seqno, status, extent, maxLV, maxPV, pvs, lvs, contents, version bool
}

// parseText reads the whole text: one volume group and the lines around it.
func parseText(text string) (*VG, error) {
	return (&vgParser{cursor: cursor{s: text}}).parse()
}

// parse reads all that the cursor has.
func (p *vgParser) parse() (*VG, error) {
	p.lvStart, p.pvIndex = -1, map[string]int{}
	for {
		key, k, err := p.next()
		switch {
		case err != nil:
			return nil, err
		case k == kindEnd:
			return p.finish()
		case k == kindValue:
			err = p.outer(key)
		case p.vg != nil:
			err = p.fail("second section %q; a text holds one volume group", key)
		default:
			err = p.group(key)
		}
		if err != nil {
			return nil, err
		}
	}
}

// outer reads a line outside the volume group.
func (p *vgParser) outer(key string) error {
	raw, err := p.value()
	if err != nil {
		return err
	}
	switch key {
	case "contents":
		s, err := parseString(raw)
		if err != nil || s != contents {
			return p.fail("contents is %.60s, not a volume group", raw)
		}
		p.seen.contents = true
	case "version":
		if n, err := parseInt(raw); err != nil || n != 1 {
			return p.fail("text version %.20s is not known", raw)
		}
		p.seen.version = true
	}
	return nil
}

// group reads the section of the volume group.
func (p *vgParser) group(name string) error {
	p.vg = &VG{Name: name}
	if err := CheckName(name); err != nil {
		return p.fail("volume group: %v", err)
	}
	for {
		key, k, err := p.next()
		if err != nil {
			return err
		}
		switch {
		case k == kindEnd:
			return nil
		case k == kindValue:
			err = p.groupValue(key)
		case key == "physical_volumes":
			err = p.physical()
		case key == "logical_volumes":
			err = p.logical()
		default:
			err = p.otherSection(key)
		}
		if err != nil {
			return err
		}
	}
}

// otherSection keeps a section that is not interpreted.
func (p *vgParser) otherSection(key string) error {
	it := item{key: key, blank: p.blank}
	sub, err := parseSection(&p.cursor)
	if err != nil {
		return err
	}
	it.sub = sub
	if key == "historical_logical_volumes" {
		for _, h := range sub.items {
			p.vg.history = append(p.vg.history, h.key)
		}
	}
	p.vg.tail = append(p.vg.tail, it)
	return nil
}

// groupValue reads a key of the volume group.
func (p *vgParser) groupValue(key string) error {
	it := item{key: key, blank: p.blank}
	raw, err := p.value()
	if err != nil {
		return err
	}
	it.raw = raw
	if p.seen.pvs || p.seen.lvs {
		p.vg.tail = append(p.vg.tail, it)
	} else {
		p.vg.head = append(p.vg.head, it)
	}
	if err := p.interpret(key, raw); err != nil {
		return p.fail("volume group key %s: %v", key, err)
	}
	return nil
}

// interpret puts a known key into the volume group.
func (p *vgParser) interpret(key, raw string) (err error) {
	vg := p.vg
	switch key {
	case "id":
		p.seen.id = true
		vg.ID, err = parseID(raw)
	case "seqno":
		p.seen.seqno = true
		var n int64
		n, err = parseRange(raw, 0, math.MaxUint32)
		vg.Seqno = uint32(n)
	case "extent_size":
		p.seen.extent = true
		vg.ExtentSize, err = parseSectors(raw)
		if err == nil && vg.ExtentSize == 0 {
			err = errors.New("must not be 0")
		}
	case "status":
		p.seen.status = true
		vg.Status, err = parseStrings(raw)
	case "flags":
		vg.Flags, err = parseStrings(raw)
	case "tags":
		vg.Tags, err = parseStrings(raw)
	case "max_lv":
		p.seen.maxLV = true
	case "max_pv":
		p.seen.maxPV = true
	case "system_id", "lock_type", "pr":
		vg.foreign = append(vg.foreign, key+" = "+raw)
	}
	return err
}

// logical reads the list of logical volumes. When it stands before the physical volumes it is read later.
func (p *vgParser) logical() error {
	if !p.seen.pvs {
		p.lvStart = p.pos
		return p.skipSection()
	}
	p.seen.lvs = true
	b := lvBuilder{pvIndex: p.pvIndex}
	for {
		for lv := p.known.next(p); lv != nil; lv = p.known.next(p) {
			p.vg.LVs = append(p.vg.LVs, lv)
		}
		start := p.pos
		name, k, err := p.next()
		if err != nil {
			return err
		}
		switch k {
		case kindEnd:
			p.refs = b.refs
			return p.known.mayShare(b.refs)
		case kindValue:
			return p.fail("key %q among the logical volumes", name)
		}
		lv, err := b.parse(&p.cursor, name)
		if err != nil {
			return err
		}
		lv.text = strings.TrimLeft(p.s[start:p.pos], " \t\r\n")
		if lv, err = p.known.missed(p, lv); err != nil {
			return err
		}
		p.vg.LVs = append(p.vg.LVs, lv)
	}
}

// finish checks what only the whole text can tell and builds the maps.
func (p *vgParser) finish() (*VG, error) {
	if p.vg == nil {
		return nil, p.fail("no volume group in the text")
	}
	if p.lvStart >= 0 && p.seen.pvs && !p.seen.lvs {
		p.pos, p.depth = p.lvStart, 2
		if err := p.logical(); err != nil {
			return nil, err
		}
	}
	if err := p.seen.complete(); err != nil {
		return nil, p.fail("%v", err)
	}
	vg := p.vg
	vg.foreign = append(vg.foreign, vg.notOurs()...)
	if err := vg.buildIndex(p.refs); err != nil {
		return nil, err
	}
	if p.known != nil && p.known.same && vg.freeAfter(p.known.before, append(p.known.gone, p.known.lvs...), p.known.fresh) {
		return vg, nil
	}
	return vg, vg.buildFree()
}

// complete names the first required key that is missing.
func (s *vgSeen) complete() error {
	for _, k := range [...]struct {
		ok   bool
		name string
	}{
		{s.contents, "contents"}, {s.version, "version"}, {s.id, "id"}, {s.seqno, "seqno"}, {s.status, "status"},
		{s.extent, "extent_size"}, {s.maxLV, "max_lv"}, {s.maxPV, "max_pv"}, {s.pvs, "physical_volumes"},
	} {
		if !k.ok {
			return fmt.Errorf("no %s in the text", k.name)
		}
	}
	return nil
}
