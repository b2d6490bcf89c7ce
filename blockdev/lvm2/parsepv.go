package lvm2

import (
	"errors"
	"fmt"
	"math"
)

// physical reads the list of physical volumes.
func (p *vgParser) physical() error {
	p.seen.pvs = true
	for {
		name, k, err := p.next()
		if err != nil {
			return err
		}
		switch k {
		case kindEnd:
			return nil
		case kindValue:
			return p.fail("key %q among the physical volumes", name)
		}
		if err := p.physicalOne(name); err != nil {
			return err
		}
	}
}

// physicalOne reads one physical volume. Its section is kept as a tree and printed in lvm2's form.
func (p *vgParser) physicalOne(name string) error {
	at := p.pos
	sub, err := parseSection(&p.cursor)
	if err != nil {
		return err
	}
	pv, err := newPV(name, sub)
	if err == nil {
		if _, dup := p.pvIndex[name]; dup {
			err = errors.New("listed twice")
		}
	}
	if err != nil {
		p.pos = at
		return p.fail("physical volume %s: %v", name, err)
	}
	p.pvIndex[name] = len(p.vg.PVs)
	p.vg.PVs = append(p.vg.PVs, *pv)
	return nil
}

// newPV interprets the section of a physical volume.
func newPV(name string, s *section) (*PV, error) {
	pv := &PV{name: name, text: s.print(name)}
	need := map[string]bool{"id": false, "status": false, "pe_start": false, "pe_count": false}
	for _, it := range s.items {
		if err := pv.interpret(it); err != nil {
			return nil, fmt.Errorf("key %s: %w", it.key, err)
		}
		if _, ok := need[it.key]; ok {
			need[it.key] = true
		}
	}
	for k, ok := range need {
		if !ok {
			return nil, fmt.Errorf("no %s", k)
		}
	}
	pv.usable = pv.PECount
	return pv, nil
}

func (pv *PV) interpret(it item) (err error) {
	switch it.key {
	case "id":
		pv.ID, err = parseID(it.raw)
	case "device":
		pv.Device, err = parseString(it.raw)
	case "dev_size":
		pv.DevSize, err = parseSectors(it.raw)
	case "pe_start":
		pv.PEStart, err = parseSectors(it.raw)
	case "pe_count":
		pv.PECount, err = parseRange(it.raw, 0, math.MaxUint32)
	case "status":
		pv.Status, err = parseStrings(it.raw)
	case "flags":
		pv.Flags, err = parseStrings(it.raw)
	case "tags":
		pv.Tags, err = parseStrings(it.raw)
	}
	return err
}
