package qcow2

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/holdfast-io/holdfast/blockdev"
)

var (
	// ErrLoop says that an image is its own ancestor.
	ErrLoop = errors.New("loop in the backing chain")
	// ErrTooLong says that a chain has more layers than the caller allows.
	ErrTooLong = errors.New("backing chain is too long")
)

// Layer is one image of a chain.
type Layer struct {
	Name   string
	Header *Header // nil: a raw image, the base
}

// ReadHeader reads and decodes the header of the image on dev.
func ReadHeader(ctx context.Context, dev blockdev.Device) (*Header, error) {
	n := min(int64(MaxHeader), dev.Size())
	n -= n % int64(dev.SectorSize())
	p := make([]byte, n)
	if err := dev.ReadAt(ctx, p, 0); err != nil {
		return nil, fmt.Errorf("reading the qcow2 header of %s: %w", dev.Name(), err)
	}
	h, err := Decode(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dev.Name(), err)
	}
	return h, nil
}

// ReadChain follows the backing names from the image named name down to its base, at most limit layers. open gives
// the device of an image by the last element of its backing name; the devices are not closed here. A backing image
// recorded as raw ends the chain, and so does one without a recorded format that is not qcow2.
func ReadChain(ctx context.Context, name string, limit int, open func(name string) (blockdev.Device, error)) ([]Layer, error) {
	var chain []Layer
	seen := map[string]bool{}
	format := "qcow2"
	for name != "" {
		if seen[name] {
			return chain, fmt.Errorf("%s comes again: %w", name, ErrLoop)
		}
		if len(chain) == limit {
			return chain, fmt.Errorf("more than %d layers: %w", limit, ErrTooLong)
		}
		seen[name] = true
		layer, err := readLayer(ctx, name, format, open)
		if err != nil {
			return chain, err
		}
		chain = append(chain, layer)
		if layer.Header == nil || layer.Header.BackingName == "" {
			return chain, nil
		}
		name, format = path.Base(layer.Header.BackingName), layer.Header.BackingFormat
	}
	return chain, nil
}

// readLayer reads one image; an empty format means that it was not recorded.
func readLayer(ctx context.Context, name, format string, open func(string) (blockdev.Device, error)) (Layer, error) {
	dev, err := open(name)
	if err != nil {
		return Layer{}, fmt.Errorf("opening layer %s: %w", name, err)
	}
	if format == "raw" {
		return Layer{Name: name}, nil
	}
	h, err := ReadHeader(ctx, dev)
	if errors.Is(err, ErrNotQcow2) && format == "" {
		return Layer{Name: name}, nil
	}
	if err != nil {
		return Layer{}, err
	}
	return Layer{Name: name, Header: h}, nil
}
