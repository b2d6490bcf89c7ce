package domain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// Check lists the inconsistencies of a domain as of its last refresh, worst first. It reads, and writes nothing; under
// a running SPM it may see changes half done. Opened with Options.Tolerant, a domain that Open refuses can be checked
// too. Volume leases are looked at when Options.Leases is set.
func Check(ctx context.Context, d *Domain) ([]Finding, error) {
	d.mu.RLock()
	c := checker{d: d, vg: d.vg, id: d.id, problem: d.problem, vols: make(map[string]*Volume, len(d.vols))}
	for id, v := range d.vols {
		c.vols[id] = v // values are never changed in place
	}
	d.mu.RUnlock()
	c.group()
	c.luns()
	c.specials()
	c.slots()
	for _, v := range c.sorted() {
		c.volume(v)
	}
	c.images()
	c.names()
	if err := c.xleases(ctx); err != nil {
		return c.out, err
	}
	if err := c.leases(ctx); err != nil {
		return c.out, err
	}
	rank := map[Severity]int{SeverityError: 0, SeverityWarning: 1, SeverityNote: 2}
	slices.SortStableFunc(c.out, func(a, b Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
	return c.out, nil
}

type checker struct {
	d       *Domain
	vg      *lvm2.VG
	id      identity
	problem error
	vols    map[string]*Volume
	out     []Finding
}

func (c *checker) add(s Severity, where, what, repair string) {
	c.out = append(c.out, Finding{What: what, Where: where, Severity: s, Repair: repair})
}

func (c *checker) sorted() []*Volume {
	out := make([]*Volume, 0, len(c.vols))
	for _, v := range c.vols {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *Volume) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// group checks keys, checksum and what LVM says of the VG.
func (c *checker) group() {
	switch {
	case errors.Is(c.problem, ErrSealBroken):
		c.add(SeverityError, "keys", c.problem.Error(), "compare the keys with a backup of the LVM metadata, correct them, and write them with a new checksum")
	case errors.Is(c.problem, ErrUnready):
		c.add(SeverityError, "domain", c.problem.Error(), "create the domain again; nothing on it is of value")
	case c.problem != nil:
		c.add(SeverityError, "domain", c.problem.Error(), "restore the LVM metadata from a backup")
	}
	for _, why := range c.vg.Foreign() {
		c.add(SeverityError, "volume group", why, "give the volume group back to whoever manages it, or remove what is foreign with LVM")
	}
	for _, w := range c.d.group.Warnings() {
		c.add(SeverityWarning, "volume group", w, "an area that is only older is rewritten by the next commit of the SPM; a damaged one by vgck --updatemetadata while no host uses the domain")
	}
	if c.vg.ExtentSize != extentUnit {
		c.add(SeverityWarning, "volume group", fmt.Sprintf("extents of %d bytes; the size rules assume %d", c.vg.ExtentSize, extentUnit), "none; sizes differ from what VDSM would choose")
	}
}

// specials checks the special volumes, those that load does not insist on too.
func (c *checker) specials() {
	for _, s := range specials {
		lv := c.vg.LV(s.name)
		switch {
		case lv == nil && c.id.geo.version < s.since:
		case lv == nil:
			c.add(SeverityError, s.name, "special volume is missing", "restore the LVM metadata from a backup")
		case c.vg.Size(lv) < s.bytes:
			c.add(SeverityError, s.name, fmt.Sprintf("special volume has %d bytes, at least %d are needed", c.vg.Size(lv), s.bytes), "extend the LV")
		case lv.Foreign:
			c.add(SeverityError, s.name, "special volume is not a plain linear LV", "convert it with LVM")
		}
	}
	if lv := c.vg.LV("metadata"); lv != nil && len(lv.Segments) > 0 && len(lv.Segments[0].Areas) > 0 && lv.Segments[0].Areas[0].StartPE != 0 {
		c.add(SeverityWarning, "metadata", "special volume does not begin at extent 0 of its LUN", "none; VDSM expects it there")
	}
}

// slots checks that no two LVs share a slot, which would mean a shared lease too, and that each has one.
func (c *checker) slots() {
	by := map[int][]string{}
	for _, v := range c.sorted() {
		if v.Slot > 0 && v.State != StateInitializing {
			by[v.Slot] = append(by[v.Slot], v.ID)
		}
		if v.Slot > MaxSlot {
			c.add(SeverityError, v.ID, fmt.Sprintf("slot %d has no lease, the highest with one is %d", v.Slot, MaxSlot), "move the volume to a free slot: metadata, tag, lease")
		} else if v.Slot > 0 && v.Slot < c.id.geo.firstSlot() {
			c.add(SeverityError, v.ID, fmt.Sprintf("slot %d is reserved", v.Slot), "move the volume to a free slot: metadata, tag, lease")
		}
	}
	for slot, ids := range by {
		if len(ids) > 1 {
			c.add(SeverityError, fmt.Sprintf("slot %d", slot), fmt.Sprintf("shared by the volumes %v, and so is their lease", ids),
				"find out by size and qcow2 header which volume the metadata describes; give the other a free slot")
		}
	}
}

// volume checks one LV.
func (c *checker) volume(v *Volume) {
	lv := c.vg.LV(v.ID)
	switch v.State {
	case StateInitializing:
		c.add(SeverityNote, v.ID, "creation was not finished", "the next start of the SPM removes it")
		return
	case StateRemoving, StateWiping:
		c.add(SeverityNote, v.ID, "deletion was not finished", "the next start of the SPM finishes it")
		return
	case StateUnreadable:
		c.add(SeverityError, v.ID, v.Problem, "restore the slot from a backup or from the mirror, or delete the volume")
		return
	}
	if lv != nil && lv.Foreign {
		c.add(SeverityWarning, v.ID, "not a plain linear LV; it can be neither extended nor deleted", "convert it with LVM")
	}
	if !validUUID(v.ID) {
		c.add(SeverityWarning, v.ID, "name is no UUID", "remove the LV if it is not a volume")
	}
	c.agreement(v)
	c.parent(v)
}

// agreement checks a volume's tags and sizes against its metadata.
func (c *checker) agreement(v *Volume) {
	if v.Parent != v.ParentTag {
		c.add(SeverityNote, v.ID, fmt.Sprintf("tag says parent %s, metadata says %s, which wins", parentOnDisk(v.ParentTag), parentOnDisk(v.Parent)),
			"normal after a live merge; the SPM corrects the tag when the merged volume is deleted")
	}
	if v.Format == FormatRaw && v.Capacity > v.AllocatedBytes {
		c.add(SeverityError, v.ID, fmt.Sprintf("raw volume of %d bytes lies in an LV of %d", v.Capacity, v.AllocatedBytes), "extend the LV to the capacity")
	}
	if v.Capacity < 1 {
		c.add(SeverityWarning, v.ID, fmt.Sprintf("capacity is %d, a resize was interrupted", v.Capacity), "set it to the virtual size of the qcow2 header")
	}
	if v.Parent != "" && v.Format == FormatRaw {
		c.add(SeverityError, v.ID, "raw volume with a parent", "find out by its first bytes whether it is qcow2 and correct the metadata")
	}
}

// parent checks that the chain goes on.
func (c *checker) parent(v *Volume) {
	if v.Parent == "" {
		return
	}
	p := c.vols[v.Parent]
	switch {
	case p == nil || !p.exists():
		c.add(SeverityError, v.ID, "parent "+v.Parent+" is missing", "restore the parent, or delete the volume: its content is incomplete")
	case p.State != StateOK:
	case p.Image != v.Image && p.VolType != Shared:
		c.add(SeverityError, v.ID, fmt.Sprintf("parent %s belongs to image %s and is no template", p.ID, p.Image), "make the parent a template if nobody writes it")
	case p.VolType == Leaf:
		c.add(SeverityError, p.ID, "volume has child "+v.ID+" and is marked leaf: a host might write it", "mark it internal")
	}
}

// images checks that each image has one leaf, and no volume waits for a child that is not there.
func (c *checker) images() {
	children, leaves, murky := map[string]int{}, map[string][]string{}, map[string]bool{}
	for _, v := range c.sorted() {
		if !v.exists() {
			continue
		}
		for _, p := range v.parents() {
			children[p]++
		}
		murky[v.Image] = murky[v.Image] || v.State != StateOK
		if v.VolType == Leaf {
			leaves[v.Image] = append(leaves[v.Image], v.ID)
		}
	}
	for _, v := range c.sorted() {
		if v.State == StateOK && v.VolType == Internal && children[v.ID] == 0 && !murky[v.Image] && len(leaves[v.Image]) == 0 {
			c.add(SeverityWarning, v.ID, "marked internal, but it has no child", "the next start of the SPM makes it a leaf")
		}
	}
	for img, ids := range leaves {
		if len(ids) > 1 {
			c.add(SeverityWarning, "image "+img, fmt.Sprintf("has %d leaves: %v", len(ids), ids), "look at the qcow2 headers for the real chain")
		}
	}
}

// names reports images that share a name: none of ours do, but an engine allows it.
func (c *checker) names() {
	by := map[string][]string{}
	for _, v := range c.sorted() {
		if v.State == StateOK && v.Name != "" && v.DiskType == "DATA" && !slices.Contains(by[v.Name], v.Image) {
			by[v.Name] = append(by[v.Name], v.Image)
		}
	}
	for name, images := range by {
		if len(images) > 1 {
			c.add(SeverityNote, fmt.Sprintf("name %q", name), fmt.Sprintf("is that of the images %v", images), "use ids, or rename all but one")
		}
	}
}
