package lvm2

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// knownTypes are the segment types whose use of physical extents is understood: what they take is in an array of
// (physical volume, extent) pairs or in other volumes.
var knownTypes = []string{
	"striped", "linear", "mirror", "snapshot", "thin", "thin-pool", "cache", "cache-pool", "writecache", "integrity",
	"vdo", "vdo-pool", "error", "zero", "raid", "raid0", "raid0_meta", "raid1", "raid10", "raid10_near", "raid4",
	"raid5", "raid5_n", "raid5_la", "raid5_ra", "raid5_ls", "raid5_rs", "raid6", "raid6_zr", "raid6_nr", "raid6_nc",
	"raid6_n_6", "raid6_la_6", "raid6_ra_6", "raid6_ls_6", "raid6_rs_6",
}

// rawSeg is a segment while it is read.
type rawSeg struct {
	Seg
	stripes          int64
	start, count     bool
	areas            string // stripes = [...]
	other            []string
	stripesSeen, odd bool
}

// segment reads one segment; the cursor is right behind its opening brace.
func (b *lvBuilder) segment(c *cursor, lv *LV) error {
	var s rawSeg
	start := c.pos
	for {
		key, k, err := c.next()
		if err != nil {
			return err
		}
		switch k {
		case kindEnd:
			return b.addSegment(lv, &s, c.s[start:c.pos-1])
		case kindSection:
			s.odd = true
			err = c.skipSection()
		case kindValue:
			var raw string
			if raw, err = c.value(); err == nil {
				err = s.interpret(key, raw)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (s *rawSeg) interpret(key, raw string) (err error) {
	switch key {
	case "start_extent":
		s.start = true
		s.StartExtent, err = parseRange(raw, 0, math.MaxUint32)
	case "extent_count":
		s.count = true
		s.ExtentCount, err = parseRange(raw, 1, math.MaxUint32)
	case "type":
		s.Type, err = parseString(raw)
	case "stripe_count":
		s.stripesSeen = true
		s.stripes, err = parseRange(raw, 1, math.MaxUint32)
	case "stripes":
		s.areas = raw
	default:
		if raw[0] == '[' && key != "tags" {
			s.other = append(s.other, raw)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// addSegment checks a segment and appends it to the volume.
func (b *lvBuilder) addSegment(lv *LV, s *rawSeg, body string) error {
	if !s.start || !s.count || s.Type == "" {
		return errors.New("segment without start_extent, extent_count or type")
	}
	if s.StartExtent != lv.extents {
		return fmt.Errorf("segment starts at extent %d where %d is due", s.StartExtent, lv.extents)
	}
	striped := s.Type == "striped" || s.Type == "linear"
	if striped && (!s.stripesSeen || s.areas == "") {
		return errors.New("segment without stripe_count or stripes")
	}
	plain := striped && s.stripes == 1 && !s.odd
	for _, raw := range append(s.other, s.areas) {
		if raw == "" {
			continue
		}
		areas, err := b.areas(raw)
		if err != nil {
			return err
		}
		s.Areas = append(s.Areas, areas...)
	}
	if striped && int64(len(s.Areas)) != s.stripes {
		return fmt.Errorf("%d stripes where stripe_count is %d", len(s.Areas), s.stripes)
	}
	if striped && s.ExtentCount%s.stripes != 0 {
		return fmt.Errorf("%d extents do not divide into %d stripes", s.ExtentCount, s.stripes)
	}
	if !plain || s.Areas[0].PV < 0 {
		lv.Foreign = true
		b.refs = append(b.refs, body)
	}
	lv.Segments = append(lv.Segments, s.Seg)
	lv.extents += s.ExtentCount
	return nil
}

// areas reads an array of pairs. An array that does not consist of (name, number) pairs has no physical areas.
func (b *lvBuilder) areas(raw string) ([]Area, error) {
	var out []Area
	name, named := "", false
	err := elements(raw, func(v string) error {
		if v[0] == '"' || v[0] == '\'' {
			name, named = unquote(v), true
			return nil
		}
		if !named {
			return nil
		}
		n, err := parseRange(v, 0, math.MaxUint32)
		if err != nil {
			return err
		}
		pv, ok := b.pvIndex[name]
		if !ok {
			pv = -1
		}
		out, named = append(out, Area{pv, n}), false
		return nil
	})
	return out, err
}

// knownType is false for segment types of the future.
func knownType(t string) bool {
	base, _, _ := strings.Cut(t, "+")
	return slices.Contains(knownTypes, base)
}

// used calls f for every run of physical extents the segment takes. For types other than striped the run may be
// longer than what is really taken.
func (s *Seg) used(f func(pv int, r run, loose bool) error) error {
	striped := s.Type == "striped" || s.Type == "linear"
	n := s.ExtentCount
	if striped && len(s.Areas) > 1 {
		n /= int64(len(s.Areas))
	}
	for _, a := range s.Areas {
		if a.PV < 0 {
			continue
		}
		if err := f(a.PV, run{a.StartPE, n}, !striped); err != nil {
			return err
		}
	}
	return nil
}
