package watchdog

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Kind is the way in which a machine is protected.
type Kind string

// Kinds of protection. Auto only occurs in a Spec.
const (
	Auto   Kind = "auto"
	Device Kind = "device"
	Wdmd   Kind = "wdmd"
	None   Kind = "none"
)

// Where they are by default.
const (
	DefaultDevice = "/dev/watchdog"
	DefaultWdmd   = "/run/wdmd/wdmd.sock"
)

var (
	// ErrUnusable says that the watchdog cannot protect this machine within the pool's time. Nothing was armed.
	ErrUnusable = errors.New("watchdog cannot be used")
	// ErrSpec says that a watchdog is configured in a way that is not understood.
	ErrSpec = errors.New("watchdog: use auto, device:PATH, wdmd:PATH or none")
)

// Spec is what the configuration says.
type Spec struct {
	Kind Kind
	Path string
}

// ParseSpec reads auto, device[:PATH], wdmd[:PATH] or none.
func ParseSpec(s string) (Spec, error) {
	kind, path, hasPath := strings.Cut(s, ":")
	spec := Spec{Kind: Kind(kind), Path: path}
	switch spec.Kind {
	case Auto, None:
		if hasPath {
			return Spec{}, fmt.Errorf("%w: %q takes no path", ErrSpec, kind)
		}
		return spec, nil
	case Device:
		if !hasPath {
			spec.Path = DefaultDevice
		}
	case Wdmd:
		if !hasPath {
			spec.Path = DefaultWdmd
		}
	default:
		return Spec{}, fmt.Errorf("%w, not %q", ErrSpec, s)
	}
	if !filepath.IsAbs(spec.Path) || len(spec.Path) > 107 {
		return Spec{}, fmt.Errorf("%w: %q is not an absolute path of at most 107 bytes", ErrSpec, spec.Path)
	}
	return spec, nil
}

// String is what ParseSpec reads.
func (s Spec) String() string {
	if s.Path == "" {
		return string(s.Kind)
	}
	return string(s.Kind) + ":" + s.Path
}

// Protection is what a machine's leases are backed by.
type Protection struct {
	Kind Kind   `json:"kind"`
	Path string `json:"path,omitempty"`
	// Fire is W: the reset comes at most this long after the expiry; 0 with None.
	Fire time.Duration `json:"fire"`
	// Reason says why there is no protection.
	Reason string `json:"reason,omitempty"`
}

// Protected says whether the machine is reset when users of a lockspace outlive it.
func (p Protection) Protected() bool { return p.Kind == Device || p.Kind == Wdmd }
