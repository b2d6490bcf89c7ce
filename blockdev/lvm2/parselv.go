package lvm2

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// lvBuilder reads sections of logical volumes.
type lvBuilder struct {
	pvIndex map[string]int
	refs    []string // text of segments that may name other volumes
}

// lvSeen says which required keys of a volume were met.
type lvSeen struct {
	id, status, count, time, host bool
	segments                      int64
}

// parse reads the section of one logical volume; the cursor is right behind its opening brace.
func (b *lvBuilder) parse(c *cursor, name string) (*LV, error) {
	lv := &LV{Name: name}
	var seen lvSeen
	at := c.pos
	for {
		key, k, err := c.next()
		if err != nil {
			return nil, err
		}
		switch k {
		case kindEnd:
			if err := seen.complete(lv); err != nil {
				c.pos = at
				return nil, c.fail("volume %s: %v", name, err)
			}
			return lv, nil
		case kindSection:
			err = b.segment(c, lv)
		case kindValue:
			var raw string
			if raw, err = c.value(); err == nil {
				err = lv.interpret(key, raw, &seen)
			}
		}
		if err != nil {
			return nil, inVolume(c, name, key, err)
		}
	}
}

// inVolume says in which volume the text is wrong.
func inVolume(c *cursor, name, key string, err error) error {
	var syn *syntaxError
	if errors.As(err, &syn) {
		return &syntaxError{syn.off, fmt.Sprintf("volume %s, %s: %s", name, key, syn.reason)}
	}
	return c.fail("volume %s, %s: %v", name, key, err)
}

// complete checks what only the whole section can tell.
func (s *lvSeen) complete(lv *LV) error {
	switch {
	case !s.id || !s.status || !s.count:
		return errors.New("id, status or segment_count is missing")
	case s.time != s.host:
		return errors.New("only one of creation_time and creation_host")
	case len(lv.Segments) == 0:
		return errors.New("no segment")
	case s.segments != int64(len(lv.Segments)):
		return fmt.Errorf("segment_count is %d, but there are %d", s.segments, len(lv.Segments))
	}
	return nil
}

// interpret puts a known key into the volume.
func (l *LV) interpret(key, raw string, seen *lvSeen) (err error) {
	switch key {
	case "id":
		seen.id = true
		l.ID, err = parseID(raw)
	case "status":
		seen.status = true
		l.Status, err = statusWords(raw)
		if slices.Contains(l.Status, "LOCKED") || slices.Contains(l.Status, "PVMOVE") {
			l.Foreign = true
		}
	case "flags":
		l.Flags, err = parseStrings(raw)
	case "tags":
		l.Tags, err = parseStrings(raw)
	case "creation_time":
		seen.time = true
		l.Created, err = parseInt(raw)
	case "creation_host":
		seen.host = true
		l.Host, err = parseString(raw)
	case "segment_count":
		seen.count = true
		seen.segments, err = parseRange(raw, 1, math.MaxUint32)
	case "lock_args":
		l.Foreign = true
	}
	return err
}

// usualStatus is shared by all ordinary volumes. It is never changed.
var usualStatus = []string{"READ", "WRITE", "VISIBLE"}

func statusWords(raw string) ([]string, error) {
	if raw == `["READ", "WRITE", "VISIBLE"]` {
		return usualStatus, nil
	}
	return parseStrings(raw)
}

// parseLV reads the section of one volume as it stands in text.
func (vg *VG) parseLV(text string) (*LV, error) {
	b := lvBuilder{pvIndex: make(map[string]int, len(vg.PVs))}
	for i := range vg.PVs {
		b.pvIndex[vg.PVs[i].name] = i
	}
	c := cursor{s: text}
	name, k, err := c.next()
	if err != nil || k != kindSection {
		return nil, fmt.Errorf("text of a volume does not begin with its name: %w", err)
	}
	lv, err := b.parse(&c, name)
	if err != nil {
		return nil, err
	}
	if c.pos != len(text) {
		return nil, c.fail("volume %s: text behind the section", name)
	}
	lv.text = text
	return lv, nil
}
