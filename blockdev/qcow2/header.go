// Package qcow2 writes the header of a new qcow2 image and reads the headers of images and their chains.
//
// Version 3 header, numbers big-endian:
//
//	offset  size  field
//	     0     4  magic "QFI\xfb"
//	     4     4  version (2 or 3)
//	     8     8  offset of the backing file name, 0 without one
//	    16     4  length of the backing file name, at most 1023
//	    20     4  cluster bits (9..21)
//	    24     8  virtual size in bytes
//	    32     4  encryption (0 none)
//	    36     4  entries of the L1 table
//	    40     8  offset of the L1 table
//	    48     8  offset of the refcount table
//	    56     4  clusters of the refcount table
//	    60     4  internal snapshots
//	    64     8  offset of the snapshot table
//	    72     8  incompatible features (bit 0 dirty, 1 corrupt, 2 external data, 3 compression type, 4 extended L2)
//	    80     8  compatible features (bit 0 lazy refcounts)
//	    88     8  autoclear features (bit 0 bitmaps, 1 raw external data)
//	    96     4  refcount order (log2 of bits, 4 = 16 bits)
//	   100     4  header length
//	   104     1  compression type (0 zlib, 1 zstd)
//	   105     7  zero
//	   112        extensions {u32 type, u32 length, data padded to 8}, ended by type 0; then the backing file name
//
// A version 2 header ends at 72 and means refcount order 4 and no features.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	magic         = 0x514649fb
	headerLen     = 112
	headerLenV2   = 72
	headerLenMin3 = 104

	extBackingFormat = 0xe2792aca
	extEnd           = 0

	maxBackingName = 1023
	// MaxHeader is how many bytes from the start of an image hold its header at most, by this package's bound.
	// Extensions and backing names beyond it are refused.
	MaxHeader = 64 << 10
)

// Incompatible feature bits.
const (
	FeatureDirty        = 1 << 0
	FeatureCorrupt      = 1 << 1
	FeatureExternalData = 1 << 2
)

var (
	// ErrNotQcow2 says that the bytes do not start with the magic.
	ErrNotQcow2 = errors.New("not a qcow2 image")
	// ErrCorrupt says that the header contradicts itself or reaches out of its bounds.
	ErrCorrupt = errors.New("corrupt qcow2 header")
	// ErrUnsupported says that the image is of a version this package does not know.
	ErrUnsupported = errors.New("unsupported qcow2 version")
)

// Header is a decoded header.
type Header struct {
	Version         int
	Size            int64 // virtual size in bytes
	ClusterBits     int
	L1Entries       int64
	L1Offset        int64
	RefcountOffset  int64
	RefcountTables  int64 // clusters of the refcount table
	RefcountOrder   int
	Encryption      int
	Snapshots       int
	Incompatible    uint64
	Compatible      uint64
	Autoclear       uint64
	CompressionType int
	BackingName     string
	BackingFormat   string // empty when the image does not record it
}

// ClusterSize is the size of a cluster in bytes.
func (h *Header) ClusterSize() int64 { return 1 << h.ClusterBits }

// Decode reads a header from the first bytes of an image. p should hold MaxHeader bytes, or the whole image if that
// is smaller; a header that reaches beyond p is corrupt.
func Decode(p []byte) (*Header, error) {
	if len(p) < 8 || binary.BigEndian.Uint32(p) != magic {
		return nil, ErrNotQcow2
	}
	h := &Header{Version: int(binary.BigEndian.Uint32(p[4:]))}
	if h.Version != 2 && h.Version != 3 {
		return nil, fmt.Errorf("version %d: %w", h.Version, ErrUnsupported)
	}
	if len(p) < headerLenV2 {
		return nil, fmt.Errorf("%d bytes only: %w", len(p), ErrCorrupt)
	}
	if len(p) > MaxHeader {
		p = p[:MaxHeader]
	}
	end, err := h.decodeFixed(p)
	if err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	return h, h.decodeVariable(p, end)
}

// decodeFixed reads the fields at fixed places and returns where the extensions start.
func (h *Header) decodeFixed(p []byte) (end int, err error) {
	be := binary.BigEndian
	h.ClusterBits = int(be.Uint32(p[20:]))
	h.Size = int64(be.Uint64(p[24:]))
	h.Encryption = int(be.Uint32(p[32:]))
	h.L1Entries = int64(be.Uint32(p[36:]))
	h.L1Offset = int64(be.Uint64(p[40:]))
	h.RefcountOffset = int64(be.Uint64(p[48:]))
	h.RefcountTables = int64(be.Uint32(p[56:]))
	h.Snapshots = int(be.Uint32(p[60:]))
	h.RefcountOrder = 4
	if h.Version == 2 {
		return headerLenV2, nil
	}
	if len(p) < headerLenMin3 {
		return 0, fmt.Errorf("%d bytes only: %w", len(p), ErrCorrupt)
	}
	h.Incompatible = be.Uint64(p[72:])
	h.Compatible = be.Uint64(p[80:])
	h.Autoclear = be.Uint64(p[88:])
	h.RefcountOrder = int(be.Uint32(p[96:]))
	end = int(be.Uint32(p[100:]))
	if end < headerLenMin3 || end > len(p) || end%8 != 0 {
		return 0, fmt.Errorf("header length %d: %w", end, ErrCorrupt)
	}
	if end > headerLenMin3 {
		h.CompressionType = int(p[104])
	}
	return end, nil
}

// check holds the numbers against each other.
func (h *Header) check() error {
	switch {
	case h.ClusterBits < 9 || h.ClusterBits > 21:
		return fmt.Errorf("cluster bits %d: %w", h.ClusterBits, ErrCorrupt)
	case h.Size < 0 || h.Size > 1<<56:
		return fmt.Errorf("virtual size %d: %w", h.Size, ErrCorrupt)
	case h.RefcountOrder < 0 || h.RefcountOrder > 6:
		return fmt.Errorf("refcount order %d: %w", h.RefcountOrder, ErrCorrupt)
	case badTable(h.L1Offset, h.ClusterSize()) || badTable(h.RefcountOffset, h.ClusterSize()):
		return fmt.Errorf("L1 table at %d, refcount table at %d: %w", h.L1Offset, h.RefcountOffset, ErrCorrupt)
	case h.L1Entries < l1Entries(h.Size, h.ClusterBits):
		return fmt.Errorf("L1 table of %d entries is too small for %d bytes: %w", h.L1Entries, h.Size, ErrCorrupt)
	}
	return nil
}

func badTable(off, cluster int64) bool { return off < 0 || off > 1<<56 || off%cluster != 0 }

// l1Entries is the number of L1 entries that size bytes need: each maps one cluster of 8-byte L2 entries.
func l1Entries(size int64, clusterBits int) int64 {
	per := int64(1) << (2*clusterBits - 3)
	return (size + per - 1) / per
}
