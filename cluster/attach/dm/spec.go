package dm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
)

// Spec is what a holder is told, as JSON.
type Spec struct {
	Domain   string           `json:"domain"`
	Volume   string           `json:"volume"`
	Device   attach.Device    `json:"device"`
	Segments []attach.Segment `json:"segments"`
	ReadOnly bool             `json:"read_only"`
	// Again lets a device that was frozen under its users go on.
	Again bool `json:"again,omitempty"`
	// Control is the socket to listen on.
	Control string `json:"control"`
	// Guard is where the lease is found in the keeper's page; of a writable mapping.
	Guard json.RawMessage `json:"guard,omitempty"`
}

// ErrSpec says that a holder was told nothing that makes sense.
var ErrSpec = errors.New("invalid specification of a device")

const maxSpec = 4 << 20

// readSpec reads all of r.
func readSpec(r io.Reader) (Spec, error) {
	var s Spec
	b, err := io.ReadAll(io.LimitReader(r, maxSpec+1))
	switch {
	case err != nil:
		return s, fmt.Errorf("%w: %w", ErrSpec, err)
	case len(b) == 0:
		return s, fmt.Errorf("%w: none came; the agent has ended", ErrSpec)
	case len(b) > maxSpec:
		return s, fmt.Errorf("%w: more than %d bytes", ErrSpec, maxSpec)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	return s, s.validate()
}

func (s *Spec) validate() error {
	if s.Volume == "" || s.Device.Name == "" || s.Device.UUID == "" || len(s.Segments) == 0 || !filepath.IsAbs(s.Control) || !s.ReadOnly && len(s.Guard) == 0 {
		return fmt.Errorf("%w: volume %.40q, device %.150q, %d segments, socket %.120q, guard of %d bytes", ErrSpec, s.Volume, s.Device.Name,
			len(s.Segments), s.Control, len(s.Guard))
	}
	return nil
}

// identity is how the kernel knows the device.
func (s *Spec) identity() kernel.Identity { return kernel.Identity(s.Device) }

// extents is the mapping with these segments.
func (s *Spec) extents(segs []attach.Segment, held bool) kernel.Extents {
	e := kernel.Extents{Identity: s.identity(), ReadOnly: s.ReadOnly, Held: held}
	for _, g := range segs {
		e.Runs = append(e.Runs, kernel.Run{Path: g.Device, OffsetBytes: g.OffsetBytes, LengthBytes: g.LengthBytes})
	}
	return e
}
