package attach

import (
	"context"
	"fmt"
)

// Refresh makes the mapping of an attached volume as long as the disks say that the volume is. It is for one that somebody else had
// extended to size, a person for instance: its own growth brings that by itself. A volume that is not attached here for writing, or whose
// mapping is as long already, is left alone.
func (m *Manager) Refresh(ctx context.Context, domainID, volume string, size int64) error {
	n := m.node(domainID, volume)
	if n == nil {
		return nil
	}
	m.mu.Lock()
	g := n.grower
	m.mu.Unlock()
	if g == nil || g.status().AllocatedBytes >= size {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.rules.RequestTimeout)
	defer cancel()
	segs, err := m.cfg.Disks.Segments(ctx, domainID, volume)
	if err != nil {
		return fmt.Errorf("reading where the extended volume %s lies: %w", volume, err)
	}
	st, err := g.mapping.Grow(ctx, segs) // what it tells comes to the grower by Watch
	if err != nil {
		return fmt.Errorf("the volume %s was extended, and its mapping does not show it: %w", volume, err)
	}
	m.cfg.Log.Info("an extended volume is larger here", "volume", volume, "allocated", st.AllocatedBytes)
	return nil
}
