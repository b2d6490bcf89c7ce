package lvm2

// MetadataUse is how long the volume group's text is and the longest that fits, both in bytes, in the metadata area with the
// least room. It reads nothing. limit is 0 when no area is in use.
func (g *Group) MetadataUse() (used, limit int64) {
	for _, pv := range g.cur.Load().pvs {
		for _, m := range pv.mdas {
			if !m.inUse() {
				continue
			}
			size, most := m.head.slots[0].size, maxText(m.area.size)
			if limit == 0 || most-size < limit-used {
				used, limit = size, most
			}
		}
	}
	return used, limit
}
