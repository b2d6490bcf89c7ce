package lvm2

import (
	"fmt"
	"math"
	"strings"
)

// strictVG checks the tree of a volume group.
type strictVG struct {
	name string
	pvs  map[string]*strictPV
	lvs  map[string]bool
	ids  map[string]string
}

// strictPV is a physical volume with the owner of each extent that is taken.
type strictPV struct {
	count int64
	owner map[int64]string
}

func (v *strictVG) check(s *section) error {
	t := strictTree{s, "volume group " + v.name}
	if err := CheckName(v.name); err != nil {
		return err
	}
	if err := t.common(vgStatus); err != nil {
		return err
	}
	if err := t.need("id", "seqno", "status", "extent_size", "max_lv", "max_pv"); err != nil {
		return err
	}
	if _, err := t.id(); err != nil {
		return err
	}
	for key, low := range map[string]int64{"seqno": 0, "extent_size": 1, "max_lv": 0, "max_pv": 0} {
		if _, err := t.num(key, low, math.MaxUint32); err != nil {
			return err
		}
	}
	if err := v.order(s); err != nil {
		return err
	}
	if err := v.physical(s.items[s.find("physical_volumes")].sub); err != nil {
		return err
	}
	if i := s.find("logical_volumes"); i >= 0 {
		return v.logical(s.items[i].sub)
	}
	return nil
}

// order demands the keys that the shortcut parser needs before physical_volumes.
func (v *strictVG) order(s *section) error {
	pvs, lvs := s.find("physical_volumes"), s.find("logical_volumes")
	if pvs < 0 || s.items[pvs].sub == nil {
		return fmt.Errorf("no physical_volumes")
	}
	if lvs >= 0 && (lvs < pvs || s.items[lvs].sub == nil) {
		return fmt.Errorf("logical_volumes must be a section behind physical_volumes")
	}
	for _, key := range [...]string{"id", "seqno", "status", "flags", "system_id", "lock_type"} {
		if i := s.find(key); i > pvs {
			return fmt.Errorf("%s stands behind physical_volumes", key)
		}
	}
	return nil
}

// unused refuses an id that another thing of the same kind has.
func (v *strictVG) unused(id, name string) error {
	if other, dup := v.ids[id]; dup {
		return fmt.Errorf("%s has the id of %s", name, other)
	}
	v.ids[id] = name
	return nil
}

func (v *strictVG) physical(s *section) error {
	v.pvs, v.ids = map[string]*strictPV{}, map[string]string{}
	for _, it := range s.items {
		t := strictTree{it.sub, it.key}
		if it.sub == nil || v.pvs[it.key] != nil {
			return fmt.Errorf("physical volume %s is no section or stands twice", it.key)
		}
		if err := t.common(pvStatus); err != nil {
			return err
		}
		if err := t.need("id", "status", "pe_start", "pe_count"); err != nil {
			return err
		}
		id, err := t.id()
		if err == nil {
			err = v.unused(id, it.key)
		}
		if err != nil {
			return err
		}
		if _, err := t.num("pe_start", 0, math.MaxInt64/sector); err != nil {
			return err
		}
		n, err := t.num("pe_count", 0, math.MaxUint32)
		if err != nil {
			return err
		}
		v.pvs[it.key] = &strictPV{n, map[int64]string{}}
	}
	if len(v.pvs) == 0 {
		return fmt.Errorf("no physical volume")
	}
	return nil
}

func (v *strictVG) logical(s *section) error {
	v.lvs, v.ids = map[string]bool{}, map[string]string{}
	if len(s.items) == 0 {
		return fmt.Errorf("empty logical_volumes; the section must be left out")
	}
	for _, it := range s.items {
		if it.sub == nil || v.lvs[it.key] {
			return fmt.Errorf("volume %s is no section or stands twice", it.key)
		}
		v.lvs[it.key] = true
	}
	for _, it := range s.items {
		if err := v.volume(it.key, strictTree{it.sub, "volume " + it.key}); err != nil {
			return err
		}
	}
	return nil
}

func (v *strictVG) volume(name string, t strictTree) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := checkPair(v.name, name); err != nil {
		return err
	}
	if v.pvs[name] != nil {
		return fmt.Errorf("volume %s has the name of a physical volume", name)
	}
	if err := t.common(lvStatus); err != nil {
		return err
	}
	if err := t.need("id", "status", "segment_count"); err != nil {
		return err
	}
	id, err := t.id()
	if err == nil {
		err = v.unused(id, t.name)
	}
	if err != nil {
		return err
	}
	if (t.find("creation_time") < 0) != (t.find("creation_host") < 0) {
		return fmt.Errorf("%s: creation_time and creation_host go together", t.name)
	}
	return v.segments(t)
}

// segments checks that the segments follow each other from 0 on.
func (v *strictVG) segments(t strictTree) error {
	count, err := t.num("segment_count", 1, math.MaxUint32)
	if err != nil {
		return err
	}
	next, n := int64(0), int64(0)
	for _, it := range t.items {
		if it.sub == nil {
			continue
		}
		n++
		if it.key != fmt.Sprintf("segment%d", n) {
			return fmt.Errorf("%s: section %s where segment%d is due", t.name, it.key, n)
		}
		length, err := v.segment(strictTree{it.sub, t.name + " " + it.key}, next)
		if err != nil {
			return err
		}
		next += length
	}
	if n != count {
		return fmt.Errorf("%s: segment_count is %d, there are %d", t.name, count, n)
	}
	return nil
}

// segment checks one segment that must begin at extent next, and returns its length.
func (v *strictVG) segment(t strictTree, next int64) (int64, error) {
	if err := t.unique(); err != nil {
		return 0, err
	}
	if err := t.need("start_extent", "extent_count", "type"); err != nil {
		return 0, err
	}
	start, err := t.num("start_extent", 0, math.MaxUint32)
	if err != nil {
		return 0, err
	}
	if start != next {
		return 0, fmt.Errorf("%s: starts at extent %d where %d is due", t.name, start, next)
	}
	count, err := t.num("extent_count", 1, math.MaxUint32)
	if err != nil {
		return 0, err
	}
	kind := t.items[t.find("type")].raw
	if kind != `"striped"` && kind != `"linear"` {
		return count, nil
	}
	return count, v.striped(t, count)
}

// striped checks the areas of a segment: they exist, and nobody else has them.
func (v *strictVG) striped(t strictTree, count int64) error {
	stripes, err := t.num("stripe_count", 1, math.MaxUint32)
	if err != nil {
		return err
	}
	if count%stripes != 0 {
		return fmt.Errorf("%s: %d extents in %d stripes", t.name, count, stripes)
	}
	i := t.find("stripes")
	if i < 0 {
		return fmt.Errorf("%s: no stripes", t.name)
	}
	words := strings.Fields(strings.NewReplacer("[", " ", "]", " ", ",", " ").Replace(t.items[i].raw))
	if int64(len(words)) != 2*stripes {
		return fmt.Errorf("%s: %d words in stripes where %d are due", t.name, len(words), 2*stripes)
	}
	for i := 0; i < len(words); i += 2 {
		if err := v.area(t.name, strings.Trim(words[i], `"`), words[i+1], count/stripes); err != nil {
			return err
		}
	}
	return nil
}

// area marks extents as taken.
func (v *strictVG) area(who, name, at string, n int64) error {
	pv := v.pvs[name]
	if pv == nil {
		if !v.lvs[name] {
			return fmt.Errorf("%s: %s is neither a physical nor a logical volume", who, name)
		}
		return nil
	}
	start, err := parseRange(at, 0, math.MaxUint32)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if start+n > pv.count {
		return fmt.Errorf("%s: extent %d of %s, which has %d", who, start+n-1, name, pv.count)
	}
	for pe := start; pe < start+n; pe++ {
		if other := pv.owner[pe]; other != "" {
			return fmt.Errorf("%s and %s share extent %d of %s", other, who, pe, name)
		}
		pv.owner[pe] = who
	}
	return nil
}
