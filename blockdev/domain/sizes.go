package domain

import "fmt"

const (
	// thinChunk is what a thin volume starts with and grows by.
	thinChunk = 2560 * mib
	// extentUnit is the size rule's own unit; a domain's VG has extents of this size.
	extentUnit = 128 * mib
	// cowOverhead is the size rule's allowance for qcow2's own tables.
	cowOverhead = 1.1
	// MaxCapacity is the largest virtual size of a volume.
	MaxCapacity = 8 << 40
)

// roundUp rounds to a multiple of unit the way the size rule demands: the sum goes through a float64.
func roundUp(x float64, unit int64) int64 {
	return int64(x+float64(unit)-1) / unit * unit
}

// maxCow is the largest size that a qcow2 volume of this capacity may ever need on a block domain.
func maxCow(capacity int64) int64 {
	return roundUp(float64(capacity)*cowOverhead, extentUnit)
}

// allocation is the number of bytes to ask LVM for when a volume is created, before rounding to extents. The caller
// has rounded capacity and initial size up to 4 KiB.
func allocation(format, alloc string, capacity, initial int64) (int64, error) {
	switch {
	case format == FormatRaw && initial != 0:
		return 0, fmt.Errorf("an initial size is for qcow2 only: %w", ErrInvalid)
	case format == FormatRaw && alloc == Sparse:
		return 0, fmt.Errorf("a sparse raw volume cannot be made on a block domain: %w", ErrInvalid)
	case format == FormatRaw:
		return capacity, nil
	case initial > maxCow(capacity):
		return 0, fmt.Errorf("initial size %d is more than %d bytes can ever need (%d): %w", initial, capacity, maxCow(capacity), ErrInvalid)
	case alloc == Preallocated && initial != 0:
		return initial, nil
	case alloc == Preallocated:
		return capacity, nil
	case initial == 0:
		return min(thinChunk, capacity), nil
	}
	return int64(float64(initial) * cowOverhead), nil
}

// optimalCow is the size that a qcow2 volume of which required bytes are used should have.
func optimalCow(required, capacity int64, leaf bool) int64 {
	if leaf {
		required += thinChunk
	}
	return min(roundUp(float64(required), extentUnit), maxCow(capacity))
}

// MaxCow is the largest size that a qcow2 volume of this capacity may ever need: VDSM extends it up to that and no further.
func MaxCow(capacity int64) int64 { return maxCow(capacity) }
