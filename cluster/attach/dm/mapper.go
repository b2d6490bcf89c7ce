package dm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// Kind is the word for this mapper in records.
const Kind = "dm"

// Config is what a Mapper is made of; all is needed.
type Config struct {
	// Dir is for the sockets: a directory of the owner's own, with a path of at most 75 bytes.
	Dir   string
	Spawn attach.Spawner
	// Page is the keeper's shared page as it is now; the caller closes it.
	Page func() (*os.File, error)
	// Devices is for what has no holder any more: it is frozen and removed here, and never made.
	Devices Devices
	// Mappable says why a device cannot be a part of one; nil: it can. Default kernel.CheckPath.
	Mappable func(path string) error
	Log      *slog.Logger
}

// Mapper implements attach.Mapper.
type Mapper struct{ cfg Config }

// maxDir leaves room for the names of the sockets.
const maxDir = 75

// New makes the directory of the sockets.
func New(cfg Config) (*Mapper, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	if cfg.Mappable == nil {
		cfg.Mappable = kernel.CheckPath
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory for the sockets of attached volumes: %w", err)
	}
	return &Mapper{cfg}, nil
}

// Kind is "dm".
func (m *Mapper) Kind() string { return Kind }

// Fits refuses LUNs that are no block devices of this machine.
func (m *Mapper) Fits(v attach.Volume) error {
	if len(m.cfg.Dir) > maxDir {
		return fmt.Errorf("the path %s is longer than the %d bytes that a socket's name leaves: give unix_socket a shorter path and restart the agent",
			m.cfg.Dir, maxDir)
	}
	if v.Device.UUID == "" {
		return fmt.Errorf("%w: volume %s has no identity", kernel.ErrUnmappable, v.ID)
	}
	var seen []string
	for _, s := range v.Segments {
		if slices.Contains(seen, s.Device) {
			continue
		}
		seen = append(seen, s.Device)
		if err := m.cfg.Mappable(s.Device); err != nil {
			return fmt.Errorf("%w: %s: %w", kernel.ErrUnmappable, s.Device, err)
		}
	}
	return nil
}

// socket is that of one volume's holder. The name is short, for a socket's name is.
func (m *Mapper) socket(domain, volume string) string {
	sum := sha256.Sum256([]byte(domain + "/" + volume))
	return filepath.Join(m.cfg.Dir, fmt.Sprintf("%x.dm", sum[:7]))
}

// Prepare starts the holder, which waits. One for writing gets the page that its guard is looked up in.
func (m *Mapper) Prepare(_ context.Context, v attach.Volume, readOnly bool) (attach.Prepared, error) {
	p := &prepared{mapper: m, volume: v}
	var page *os.File
	if !readOnly {
		var err error
		if page, err = m.cfg.Page(); err != nil {
			return nil, err
		}
		defer page.Close()
		if p.page, err = attach.PageInode(page); err != nil {
			return nil, err
		}
	}
	var err error
	if p.child, err = m.cfg.Spawn(page); err != nil {
		return nil, fmt.Errorf("starting the device's holder: %w", err)
	}
	if p.start, err = keeper.StartTime(p.child.PID); err != nil {
		return nil, errors.Join(fmt.Errorf("the device's holder: %w", err), p.closePipes())
	}
	return p, nil
}

// findTimeout bounds the look for a holder, which answers at once if it is well.
const findTimeout = 5 * time.Second

// Find takes up the holder of an earlier agent.
func (m *Mapper) Find(ctx context.Context, r attach.Record) (attach.Mapping, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	return m.dial(ctx, r)
}

func identity(d attach.Device) kernel.Identity { return kernel.Identity(d) }

// End kills the holder, and freezes the device.
func (m *Mapper) End(ctx context.Context, r attach.Record) error {
	if err := attach.EndProcess(ctx, r.Process); err != nil {
		return err
	}
	return m.cut(ctx, r.Device, m.cfg.Devices.Freeze)
}

// Fail lets those who wait for a frozen device have errors.
func (m *Mapper) Fail(ctx context.Context, r attach.Record) error {
	return m.cut(ctx, r.Device, m.cfg.Devices.Fail)
}

// Clear removes the device. While somebody has it open it stays, and fails everything.
func (m *Mapper) Clear(ctx context.Context, r attach.Record) error {
	if err := m.End(ctx, r); err != nil {
		return err
	}
	err := m.cut(ctx, r.Device, m.cfg.Devices.Deactivate)
	if errors.Is(err, kernel.ErrOpen) {
		return errors.Join(err, m.Fail(ctx, r))
	}
	return err
}

// cut does something to a device that has no holder. A record without one names nothing that was ever made.
func (m *Mapper) cut(ctx context.Context, d attach.Device, how func(context.Context, kernel.Identity) error) error {
	if d.UUID == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if err := how(ctx, identity(d)); err != nil {
		return fmt.Errorf("%w: %w", attach.ErrStillThere, err)
	}
	return nil
}
