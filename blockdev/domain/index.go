package domain

// slotSet is a set of slots.
type slotSet [MaxSlot + 1]bool

func (s *slotSet) has(slot int) bool { return slot > MaxSlot || s[slot] }

func (s *slotSet) set(slot int, in bool) {
	if slot >= 0 && slot <= MaxSlot {
		s[slot] = in
	}
}

// index is what a batch looks things up in. It follows the domain's volumes, and holds what the running batch plans.
type index struct {
	slots    map[int]int               // slot -> number of LVs on it, those being removed too
	names    map[string]map[string]int // name -> image -> number of volumes
	children map[string]int            // volume -> number of volumes that say it is their parent
}

func newIndex(d *Domain) index {
	d.mu.RLock()
	defer d.mu.RUnlock()
	x := index{slots: map[int]int{}, names: map[string]map[string]int{}, children: map[string]int{}}
	for _, v := range d.vols {
		if v.State != StateInitializing {
			x.slots[v.Slot]++
		}
		if v.exists() {
			x.link(v, 1)
		}
	}
	return x
}

// link counts a volume's name and parents in, or out with n = -1.
func (x *index) link(v *Volume, n int) {
	x.linkName(v.Name, v.Image, n)
	for _, p := range v.parents() {
		if x.children[p] += n; x.children[p] == 0 {
			delete(x.children, p)
		}
	}
}

// linkName counts a name in, or out with n = -1.
func (x *index) linkName(name, image string, n int) {
	if name == "" {
		return
	}
	if x.names[name] == nil {
		x.names[name] = map[string]int{}
	}
	x.names[name][image] += n
	if x.names[name][image] == 0 {
		delete(x.names[name], image)
	}
	if len(x.names[name]) == 0 {
		delete(x.names, name)
	}
}

// parents are the volumes that this one's metadata and tag say it is based on; after a live merge they may differ.
func (v *Volume) parents() []string {
	switch {
	case v.Parent == "" && v.ParentTag == "":
		return nil
	case v.Parent == v.ParentTag || v.ParentTag == "":
		return []string{v.Parent}
	case v.Parent == "":
		return []string{v.ParentTag}
	}
	return []string{v.Parent, v.ParentTag}
}

func (x *index) slotUsed(slot int) bool { return x.slots[slot] > 0 }

func (x *index) takeSlot(slot int) { x.slots[slot]++ }

func (x *index) dropSlot(slot int) {
	if x.slots[slot]--; x.slots[slot] <= 0 {
		delete(x.slots, slot)
	}
}

// nameTaken tells whether another image has the name.
func (x *index) nameTaken(name, image string) bool {
	for img := range x.names[name] {
		if img != image {
			return true
		}
	}
	return false
}
