package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// Segment is a run of bytes of a LUN.
type Segment struct {
	Device      string `json:"device"` // as blockdev.Open takes it
	OffsetBytes int64  `json:"offset_bytes"`
	LengthBytes int64  `json:"length_bytes"`
}

// Place is where a volume's lease lies.
type Place struct {
	Lockspace string `json:"lockspace"` // the domain
	Name      string `json:"name"`      // the volume
	Device    string `json:"device"`
	Offset    int64  `json:"offset"`
}

// Device is how the kernel's device-mapper knows a volume, as lvm2 would name it.
type Device struct {
	Name string `json:"name,omitempty"`
	UUID string `json:"uuid,omitempty"`
}

// Volume is a volume as its domain's disks show it now.
type Volume struct {
	ID       string
	Domain   string
	Name     string
	Format   string // domain.FormatRaw or FormatQcow2
	Type     string // domain.Leaf, Internal or Shared
	Legality string
	Parent   string // empty: none
	// SizeBytes is what clients of a mapping see: of a raw volume what the guest sees, of a qcow2 one the largest container.
	SizeBytes int64
	// Grows says that the volume may need more than it has now.
	Grows    bool
	Segments []Segment
	Device   Device
	Lease    Place
	// IOTimeout is the deadline of a device call that the pool's lease times allow.
	IOTimeout time.Duration
}

// Disks reads domains from their disks. It needs neither the cluster nor the network. A domain that this host does not use
// now is an error.
type Disks interface {
	Volume(ctx context.Context, domainID, volume string) (Volume, error)
	// Segments reads where the volume lies now.
	Segments(ctx context.Context, domainID, volume string) ([]Segment, error)
}

// maxChain bounds a chain; VDSM's own limit is far below.
const maxChain = 200

// ErrChain says that a volume's chain is not one that can be attached.
var ErrChain = errors.New("the volume's chain cannot be attached")

// ErrIllegal says that a volume of the chain is marked illegal: its content is not to be trusted.
var ErrIllegal = errors.New("the volume is illegal: an operation on it did not end well")

// chainOf reads a volume and what it is based on, the top first.
func chainOf(ctx context.Context, d Disks, domainID, top string) ([]Volume, error) {
	var chain []Volume
	for id := top; id != ""; {
		if len(chain) == maxChain {
			return nil, fmt.Errorf("%w: more than %d layers", ErrChain, maxChain)
		}
		if slices.ContainsFunc(chain, func(v Volume) bool { return v.ID == id }) {
			return nil, fmt.Errorf("%w: volume %s is based on itself", ErrChain, id)
		}
		v, err := d.Volume(ctx, domainID, id)
		if err != nil {
			return nil, fmt.Errorf("reading volume %s: %w", id, err)
		}
		chain = append(chain, v)
		id = v.Parent
	}
	return chain, nil
}

// checkChain refuses what must not be used, before anything is done.
func checkChain(chain []Volume, readOnly bool) error {
	if top := chain[0]; !readOnly && top.Type != domain.Leaf {
		return fmt.Errorf("%w: volume %s is %s, and others are based on it: attach it read-only, or the leaf", ErrChain, top.ID, top.Type)
	}
	for _, v := range chain {
		if v.Legality != domain.Legal {
			return fmt.Errorf("volume %s: %w", v.ID, ErrIllegal)
		}
		if v.Parent != "" && v.Format != domain.FormatQcow2 {
			return fmt.Errorf("%w: volume %s is %s and has a parent", ErrChain, v.ID, v.Format)
		}
	}
	return nil
}

// total is the length of all segments.
func total(list []Segment) int64 {
	n := int64(0)
	for _, s := range list {
		n += s.LengthBytes
	}
	return n
}
