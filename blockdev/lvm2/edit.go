package lvm2

import (
	"fmt"
	"slices"
	"strconv"
)

// grow appends what was allocated to the section of a volume: the last segment becomes longer where the new extents
// follow it, others are added.
func (s *section) grow(lv *LV, a *allocation, pvs []PV) {
	segs := a.segments(lv.extents)
	last := lv.Segments[len(lv.Segments)-1]
	count := len(lv.Segments)
	if area := last.Areas[0]; segs[0].Areas[0] == (Area{area.PV, area.StartPE + last.ExtentCount}) {
		if i := s.lastSection(); i >= 0 {
			s.items[i].sub.set("extent_count", strconv.FormatInt(last.ExtentCount+segs[0].ExtentCount, 10))
		}
		segs = segs[1:]
	}
	for _, sg := range segs {
		s.items = append(s.items, segItem(count, sg, pvs))
		count++
	}
	s.set("segment_count", strconv.Itoa(count))
}

// lastSection is the position of the last segment.
func (s *section) lastSection() int {
	for i := len(s.items) - 1; i >= 0; i-- {
		if s.items[i].sub != nil {
			return i
		}
	}
	return -1
}

// setTags writes a list of tags where lvm2 has it; an empty list is left out.
func (s *section) setTags(tags []string) {
	if len(tags) == 0 {
		s.remove("tags")
		return
	}
	s.set("tags", quoteAll(tags), "flags", "status", "id")
}

// mergeTags appends new tags in their order; those that are there stay where they are.
func mergeTags(old, more []string) ([]string, error) {
	out := slices.Clone(old)
	for _, t := range more {
		if err := CheckTag(t); err != nil {
			return nil, err
		}
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out, nil
}

// dropTags removes tags; absent ones are no error.
func dropTags(old, less []string) []string {
	return slices.DeleteFunc(slices.Clone(old), func(t string) bool { return slices.Contains(less, t) })
}

// AddLVTags adds tags to a volume. Tags it has already are no error.
func (tx *Tx) AddLVTags(name string, tags ...string) error { return tx.ChangeLVTags(name, tags, nil) }

// DelLVTags removes tags from a volume. Tags it does not have are no error.
func (tx *Tx) DelLVTags(name string, tags ...string) error { return tx.ChangeLVTags(name, nil, tags) }

// ChangeLVTags removes and adds tags of a volume in one step.
func (tx *Tx) ChangeLVTags(name string, add, del []string) error {
	lv, err := tx.ours(name)
	if err != nil {
		return fmt.Errorf("change tags: %w", err)
	}
	tags, err := mergeTags(dropTags(lv.Tags, del), add)
	if err != nil {
		return fmt.Errorf("change tags of volume %s: %w", name, err)
	}
	if slices.Equal(tags, lv.Tags) {
		return nil
	}
	_, err = tx.edit(lv, func(s *section) { s.setTags(tags) })
	return err
}

// AddVGTags adds tags to the volume group. Tags it has already are no error.
func (tx *Tx) AddVGTags(tags ...string) error { return tx.ChangeVGTags(tags, nil) }

// DelVGTags removes tags from the volume group. Tags it does not have are no error.
func (tx *Tx) DelVGTags(tags ...string) error { return tx.ChangeVGTags(nil, tags) }

// ChangeVGTags removes and adds tags of the volume group in one step.
func (tx *Tx) ChangeVGTags(add, del []string) error {
	if err := tx.usable(); err != nil {
		return fmt.Errorf("change tags: %w", err)
	}
	tags, err := mergeTags(dropTags(tx.vg.Tags, del), add)
	if err != nil {
		return fmt.Errorf("change tags of %s: %w", tx.vg.Name, err)
	}
	if slices.Equal(tags, tx.vg.Tags) {
		return nil
	}
	s := section{items: slices.Clone(tx.vg.head)}
	s.setTags(tags)
	tx.vg.head, tx.vg.Tags = s.items, tags
	tx.changed++
	return nil
}

// RenameLV gives a volume another name. Its place in the list stays.
func (tx *Tx) RenameLV(name, to string) (*LV, error) {
	lv, err := tx.ours(name)
	if err == nil {
		err = checkNewLV(tx.vg.Name, to)
	}
	if err == nil && (tx.vg.LV(to) != nil || slices.Contains(tx.vg.history, to)) {
		err = fmt.Errorf("volume %s: %w", to, ErrExists)
	}
	if err != nil {
		return nil, fmt.Errorf("rename: %w", err)
	}
	_, sec, err := parseOne(lv.text)
	if err != nil {
		return nil, fmt.Errorf("rename volume %s: %w", name, err)
	}
	next, err := tx.vg.parseLV(sec.print(to))
	if err != nil {
		return nil, fmt.Errorf("rename volume %s: %w", name, err)
	}
	tx.vg.LVs[slices.Index(tx.vg.LVs, lv)] = next
	tx.vg.index.set(name, nil)
	tx.vg.index.set(to, next)
	tx.changed++
	return next, nil
}
