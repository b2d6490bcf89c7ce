package leases

const (
	bitmapOffset = 256
	bitmapSize   = 256
)

// Bitmap is the set of hosts that a host wants to look at something, in its lockspace record.
type Bitmap [bitmapSize]byte

// Set marks host h.
func (m *Bitmap) Set(h int) { m[(h-1)/8] |= 1 << ((h - 1) % 8) }

// Clear unmarks host h.
func (m *Bitmap) Clear(h int) { m[(h-1)/8] &^= 1 << ((h - 1) % 8) }

// Has says whether host h is marked.
func (m *Bitmap) Has(h int) bool { return m[(h-1)/8]&(1<<((h-1)%8)) != 0 }
