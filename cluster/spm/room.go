package spm

import (
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// Defaults of Settings.
const (
	// DefaultWarnPercent is the share of free space below which a domain is warned of.
	DefaultWarnPercent = 10
	// DefaultCriticalFree is the free space, in bytes, below which a domain takes no new volumes. Of domains below ten times as
	// much it is a tenth.
	DefaultCriticalFree = 5 << 30
)

// Settings are what people may say about a domain's free space. A nil field means the default.
type Settings struct {
	WarnPercent  *int   // of the size; 0: never
	CriticalFree *int64 // bytes; 0: never
}

// WarnBelow is how many free bytes a domain of this size is warned of.
func (s Settings) WarnBelow(size int64) int64 {
	percent := int64(DefaultWarnPercent)
	if s.WarnPercent != nil {
		percent = int64(*s.WarnPercent)
	}
	return size / 100 * percent
}

// CriticalBelow is with how few free bytes a domain of this size takes no new volumes.
func (s Settings) CriticalBelow(size int64) int64 {
	if s.CriticalFree != nil {
		return *s.CriticalFree
	}
	return min(DefaultCriticalFree, size/10)
}

// ErrCritical refuses new volumes on a domain with little space: what is left is for the volumes that grow.
var ErrCritical = fmt.Errorf("the domain has critically little space: %w", domain.ErrFull)

// room refuses a new volume where space is critically short. One that is there already is answered as before, and extending and
// deleting go on.
func (d *served) room(spec domain.VolumeSpec) error {
	if _, ok := d.dom.Volume(spec.ID); ok {
		return nil
	}
	info := d.dom.Info()
	if least := d.s.r.cfg.Settings(d.id).CriticalBelow(info.Size); info.Free < least {
		return fmt.Errorf("domain %s has %d bytes free, of which %d are kept for volumes that grow: %w", d.name, info.Free, least, ErrCritical)
	}
	return nil
}
