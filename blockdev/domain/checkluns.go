package domain

import (
	"fmt"
	"maps"
)

// luns checks the list of LUNs that the keys hold against the volume group, and where the LVM metadata lies. Nothing is addressed by
// the keys, so wrong ones harm nobody.
func (c *checker) luns() {
	if with := c.d.group.MetadataPVs(); len(with) > 1 {
		c.add(SeverityWarning, "volume group", fmt.Sprintf("%d LUNs carry LVM metadata", len(with)),
			"pvchange --metadataignore y on all but the one with volume metadata, while no host uses the domain; VDSM expects one")
	}
	have := c.d.Keys()
	want := maps.Clone(have)
	want.replacePVKeys(c.vg)
	if c.problem == nil && !maps.Equal(have, want) {
		c.add(SeverityNote, "keys", "the list of LUNs (PV0, PV1, ...) differs from that of the volume group", "the next extension of the domain corrects it; nothing depends on it")
	}
}
