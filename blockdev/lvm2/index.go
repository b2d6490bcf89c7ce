package lvm2

import "maps"

// lvIndex finds logical volumes by name. It is copy-on-write: base is shared between versions of a VG and never
// changed, delta belongs to one version. A nil in delta is a removed name.
type lvIndex struct {
	base  map[string]*LV
	delta map[string]*LV
}

// maxDelta is how many changes are carried along before a new base is made.
const maxDelta = 256

func newIndex(lvs []*LV) lvIndex {
	base := make(map[string]*LV, len(lvs))
	for _, lv := range lvs {
		base[lv.Name] = lv
	}
	return lvIndex{base: base}
}

func (x *lvIndex) get(name string) *LV {
	if lv, ok := x.delta[name]; ok {
		return lv
	}
	return x.base[name]
}

// set must be called only on an index that clone returned.
func (x *lvIndex) set(name string, lv *LV) { x.delta[name] = lv }

// clone returns an index that can be changed without touching this one.
func (x *lvIndex) clone() lvIndex {
	delta := make(map[string]*LV, len(x.delta)+8)
	maps.Copy(delta, x.delta)
	return lvIndex{base: x.base, delta: delta}
}

// compact returns an index that is cheap to clone. lvs is what the index holds.
func (x *lvIndex) compact(lvs []*LV) lvIndex {
	if len(x.delta) > maxDelta {
		return newIndex(lvs)
	}
	return *x
}
