package attach

import "slices"

// UsedOn lists the volumes of a domain that are attached on this host, by UUID, also those whose mapping is broken now.
func (m *Manager) UsedOn(domainID string) []string {
	var out []string
	for _, r := range m.records() {
		if r.Domain == domainID {
			out = append(out, r.Volume)
		}
	}
	slices.Sort(out)
	return out
}
