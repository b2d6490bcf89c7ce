package lvm2

// maxText is the longest text, NUL included, that fits into an area of this size besides the committed one.
func maxText(area int64) int64 { return max((area-mdaHeader)/2-sector, 0) }

// place returns the offset in the area where the next text goes, given the committed one.
func place(area int64, committed slot) int64 {
	if committed.empty() || committed.slotFlag&slotIgnored != 0 {
		return mdaHeader
	}
	last := committed.offset + committed.size - 1
	if last >= area {
		last = mdaHeader + last - area
	}
	if area-last < sector {
		return mdaHeader
	}
	next := (last + sector) / sector * sector
	if next > area-sector {
		return mdaHeader
	}
	return next
}

// pieces splits n bytes at offset off of the ring where it wraps. The second piece has size 0 when it does not.
func pieces(area, off, n int64) (first, second byteRange) {
	if off+n <= area {
		return byteRange{off, n}, byteRange{mdaHeader, 0}
	}
	return byteRange{off, area - off}, byteRange{mdaHeader, off + n - area}
}
