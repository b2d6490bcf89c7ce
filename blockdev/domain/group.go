package domain

import (
	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// VG is the volume group as it was read last: what a mapper computes tables from. Refresh reads it again.
func (d *Domain) VG() *lvm2.VG { return d.group.VG() }

// Devices are the LUNs, in the order of VG().PVs.
func (d *Domain) Devices() []blockdev.Device { return d.group.Devices() }
