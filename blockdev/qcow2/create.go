package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	clusterBits = 16
	cluster     = 1 << clusterBits

	// MaxSize is the largest virtual size that Create accepts: 8 TiB.
	MaxSize = 8 << 40
	// sectorAlign is what the length of the written head is rounded up to.
	sectorAlign = 4096
)

// ErrInvalid says that an image cannot be made as asked.
var ErrInvalid = errors.New("invalid qcow2 image")

// CreateOptions describe a new image.
type CreateOptions struct {
	Size          int64  // virtual size in bytes, 1..MaxSize, a multiple of 512
	BackingName   string // empty: none
	BackingFormat string // "raw" or "qcow2"; required with a backing name
}

// Create returns the first bytes of an empty version 3 image: header, refcount table, refcount block and L1 table, in
// this order, each at a 64 KiB cluster. Written at offset 0 of any device they make a valid image, whatever the bytes
// behind them are: nothing refers to those. The length is a multiple of 4096.
func Create(o CreateOptions) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	l1 := l1Entries(o.Size, clusterBits)
	l1Clusters := (l1*8 + cluster - 1) / cluster
	p := make([]byte, 3*cluster+(l1*8+sectorAlign-1)/sectorAlign*sectorAlign)
	putHeader(p, o, l1)
	binary.BigEndian.PutUint64(p[cluster:], 2*cluster)
	for i := range 3 + l1Clusters {
		binary.BigEndian.PutUint16(p[2*cluster+2*i:], 1)
	}
	return p, nil
}

func (o CreateOptions) check() error {
	switch {
	case o.Size <= 0 || o.Size > MaxSize:
		return fmt.Errorf("virtual size %d is not within 1 byte and 8 TiB: %w", o.Size, ErrInvalid)
	case o.Size%512 != 0:
		return fmt.Errorf("virtual size %d is not a multiple of 512: %w", o.Size, ErrInvalid)
	case len(o.BackingName) > maxBackingName || strings.ContainsRune(o.BackingName, 0):
		return fmt.Errorf("backing name of %d bytes: %w", len(o.BackingName), ErrInvalid)
	case o.BackingName != "" && o.BackingFormat != "raw" && o.BackingFormat != "qcow2":
		return fmt.Errorf("backing format %q: %w", o.BackingFormat, ErrInvalid)
	}
	return nil
}

func putHeader(p []byte, o CreateOptions, l1 int64) {
	be := binary.BigEndian
	be.PutUint32(p[0:], magic)
	be.PutUint32(p[4:], 3)
	be.PutUint32(p[20:], clusterBits)
	be.PutUint64(p[24:], uint64(o.Size))
	be.PutUint32(p[36:], uint32(l1))
	be.PutUint64(p[40:], 3*cluster)
	be.PutUint64(p[48:], cluster)
	be.PutUint32(p[56:], 1)
	be.PutUint32(p[96:], 4)
	be.PutUint32(p[100:], headerLen)
	if o.BackingName == "" {
		return
	}
	pos := headerLen
	be.PutUint32(p[pos:], extBackingFormat)
	be.PutUint32(p[pos+4:], uint32(len(o.BackingFormat)))
	copy(p[pos+8:], o.BackingFormat)
	pos += 8 + (len(o.BackingFormat)+7)&^7 + 8 // the end mark is eight zeroes
	be.PutUint64(p[8:], uint64(pos))
	be.PutUint32(p[16:], uint32(len(o.BackingName)))
	copy(p[pos:], o.BackingName)
}
