package domain

import "fmt"

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30

	// MaxSlot is the highest slot whose lease still lies within the leases volume; it bounds the number of volumes.
	MaxSlot = 1947

	leaseSlotBase = 100 // volume leases come behind the reserved areas of the leases volume
	leaseAreas    = 2048
	xleaseAreas   = 1024
	sdmArea       = 1

	slotBaseV5   = mib
	slotStrideV5 = 8192
	slotSize     = 512
)

// geometry is where things lie inside the special volumes.
type geometry struct {
	version int
	sector  int
	align   int64
}

// parse reads the keys of a version 5 domain; older ones have fixed values.
func (g *geometry) parse(k Keys) error {
	if g.version < 5 {
		return nil
	}
	for key, set := range map[string]func(int64){
		keyAlignment: func(n int64) { g.align = n },
		keyBlockSize: func(n int64) { g.sector = int(n) },
	} {
		if _, ok := k[key]; !ok {
			continue
		}
		n, err := k.number(key)
		if err != nil {
			return err
		}
		set(n)
	}
	if g.sector != 512 || g.align != mib {
		return fmt.Errorf("sector size %d and alignment %d, on block devices only 512 and 1048576 exist: %w", g.sector, g.align, ErrBadKeys)
	}
	return nil
}

// firstSlot is the lowest slot that a volume may have.
func (g geometry) firstSlot() int {
	if g.version < 5 {
		return 4
	}
	return 1
}

// slotOffset is the place of a slot in the metadata volume.
func (g geometry) slotOffset(slot int) int64 {
	if g.version < 5 {
		return int64(slot) * slotSize
	}
	return slotBaseV5 + int64(slot)*g.slotStride()
}

func (g geometry) slotStride() int64 {
	if g.version < 5 {
		return slotSize
	}
	return slotStrideV5
}

// leaseOffset is the place of a slot's resource in the leases volume.
func (g geometry) leaseOffset(slot int) int64 { return int64(leaseSlotBase+slot) * g.align }

// freeSlot is the lowest slot from first on that used does not hold; beyond MaxSlot there is none.
func freeSlot(first int, used func(int) bool) (int, error) {
	for s := first; s <= MaxSlot; s++ {
		if !used(s) {
			return s, nil
		}
	}
	return 0, fmt.Errorf("all %d slots are used: %w", MaxSlot+1-first, ErrFull)
}

// special is one of the reserved volumes of a domain.
type special struct {
	name  string
	bytes int64
	since int // version
}

// specials lists the reserved volumes in the order of their creation.
var specials = [...]special{
	{"metadata", 128 * mib, 0},
	{"ids", 8 * mib, 0},
	{"inbox", 16 * mib, 0},
	{"outbox", 16 * mib, 0},
	{"leases", leaseAreas * mib, 0},
	{"xleases", xleaseAreas * mib, 4},
	{"master", 1024 * mib, 0},
}

// isSpecial tells whether an LV's name is reserved, in any version.
func isSpecial(name string) bool {
	for _, s := range specials {
		if s.name == name {
			return true
		}
	}
	return false
}
