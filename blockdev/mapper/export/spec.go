package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"
)

// SegmentSpec is a run of bytes of a device that a process of its own opens.
type SegmentSpec struct {
	Device      string `json:"device"` // as blockdev.Open takes it
	OffsetBytes int64  `json:"offset_bytes"`
	LengthBytes int64  `json:"length_bytes"`
}

// Spec is what Main serves. Start from DefaultSpec; what the JSON leaves out has the default.
type Spec struct {
	// Name, MaxBytes and what follows up to Discard are as in Config.
	Name            string `json:"name"`
	MaxBytes        int64  `json:"max_bytes"`
	ReadOnly        bool   `json:"read_only"`
	ThresholdBytes  int64  `json:"threshold_bytes"`
	HighBytes       int64  `json:"high_bytes"`
	PatienceMS      int64  `json:"patience_ms"`
	IOTimeoutMS     int64  `json:"io_timeout_ms"`
	DetachTimeoutMS int64  `json:"detach_timeout_ms"`
	Discard         bool   `json:"discard"`
	// Socket is where NBD clients connect, Control where a Client does; absolute paths of one folder of the owner's
	// own, at most 100 bytes. Both are made with mode 0600 unless SocketMode says otherwise for Socket.
	Socket     string `json:"socket"`
	Control    string `json:"control"`
	SocketMode uint32 `json:"socket_mode"`
	// Segments is the mapping, which must not be empty.
	Segments []SegmentSpec `json:"segments"`
	// SectorSize and Buffered are as in blockdev.Options.
	SectorSize int  `json:"sector_size"`
	Buffered   bool `json:"buffered"`
	// Guard is for the function that makes the guard; this package does not look at it.
	Guard json.RawMessage `json:"guard,omitempty"`
}

// DefaultSpec has the defaults of everything that has one.
func DefaultSpec() Spec {
	c := DefaultConfig()
	return Spec{ThresholdBytes: c.ThresholdBytes, PatienceMS: c.Patience.Milliseconds(), IOTimeoutMS: c.IOTimeout.Milliseconds(),
		DetachTimeoutMS: c.DetachTimeout.Milliseconds(), SocketMode: 0o600}
}

const (
	maxSpec     = 1 << 20
	maxPath     = 100 // sun_path has 108 bytes, and the name is longer for a moment
	maxSegments = 8192
)

// DecodeSpec reads a Spec to the end of r and checks it.
func DecodeSpec(r io.Reader) (Spec, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSpec+1))
	if err != nil {
		return Spec{}, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(b) > maxSpec {
		return Spec{}, fmt.Errorf("%w: more than %d bytes", ErrConfig, maxSpec)
	}
	s := DefaultSpec()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Spec{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return s, s.Validate()
}

// Validate refuses what cannot be served, as far as that shows without the devices and the guard.
func (s Spec) Validate() error {
	for _, p := range []string{s.Socket, s.Control} {
		if !filepath.IsAbs(p) || len(p) > maxPath {
			return fmt.Errorf("%w: socket %q: want an absolute path of at most %d bytes", ErrConfig, p, maxPath)
		}
	}
	if s.Socket == s.Control {
		return fmt.Errorf("%w: export and control want sockets of their own", ErrConfig)
	}
	if s.SocketMode&^0o777 != 0 {
		return fmt.Errorf("%w: socket mode %o", ErrConfig, s.SocketMode)
	}
	limit := maxDuration.Milliseconds()
	if max(s.PatienceMS, s.IOTimeoutMS, s.DetachTimeoutMS) > limit || min(s.PatienceMS, s.IOTimeoutMS, s.DetachTimeoutMS) < 0 {
		return fmt.Errorf("%w: times of %d, %d and %d ms: want 0 to %d", ErrConfig, s.PatienceMS, s.IOTimeoutMS, s.DetachTimeoutMS, limit)
	}
	return checkSegments(s.Segments)
}

// checkSegments refuses lists that no volume group has; the devices' own limits are looked at when they are open.
func checkSegments(list []SegmentSpec) error {
	if len(list) == 0 || len(list) > maxSegments {
		return fmt.Errorf("%w: %d segments: want 1 to %d", ErrConfig, len(list), maxSegments)
	}
	for i, g := range list {
		if g.Device == "" || g.OffsetBytes < 0 || g.LengthBytes <= 0 {
			return fmt.Errorf("%w: segment %d: %d bytes at %d of %q", ErrConfig, i, g.LengthBytes, g.OffsetBytes, g.Device)
		}
	}
	return nil
}

// config is the part that a Server takes.
func (s Spec) config(log *slog.Logger) Config {
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	return Config{
		Name: s.Name, MaxBytes: s.MaxBytes, ReadOnly: s.ReadOnly, ThresholdBytes: s.ThresholdBytes, HighBytes: s.HighBytes,
		Patience: ms(s.PatienceMS), IOTimeout: ms(s.IOTimeoutMS), DetachTimeout: ms(s.DetachTimeoutMS), Discard: s.Discard, Log: log,
	}
}
