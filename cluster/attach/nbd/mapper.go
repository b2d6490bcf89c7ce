// Package nbd maps volumes as NBD exports on unix sockets, each served by a process of its own that outlives the agent.
//
// The process is started before its lease is taken, and waits: its specification comes through a pipe, and the end of the pipe
// without one is its end. So the lease can be tied to it, and nothing is left of it when the agent dies in between.
package nbd

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/mapper/export"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// Kind is the word for this mapper in records.
const Kind = "nbd"

// Child and Spawner are as package attach has them.
type (
	Child   = attach.Child
	Spawner = attach.Spawner
)

// Config is what a Mapper is made of; all is needed.
type Config struct {
	// Dir is for the sockets: a directory of the owner's own, with a path of at most 75 bytes.
	Dir   string
	Spawn Spawner
	// Page is the keeper's shared page as it is now; the caller closes it.
	Page func() (*os.File, error)
	Log  *slog.Logger
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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory for the sockets of attached volumes: %w", err)
	}
	return &Mapper{cfg}, nil
}

// Kind is "nbd".
func (m *Mapper) Kind() string { return Kind }

// sockets are those of one volume. The names are short, for a socket's name is.
func (m *Mapper) sockets(domain, volume string) (clients, control string) {
	sum := sha256.Sum256([]byte(domain + "/" + volume))
	base := filepath.Join(m.cfg.Dir, fmt.Sprintf("%x", sum[:7]))
	return base + ".nbd", base + ".ctl"
}

// Prepare starts the process. Of a mapping for writing it gets the page that its guard is looked up in.
func (m *Mapper) Prepare(_ context.Context, v attach.Volume, readOnly bool) (attach.Prepared, error) {
	if len(m.cfg.Dir) > maxDir {
		return nil, fmt.Errorf("the sockets of attached volumes would lie in %s, whose path is longer than the %d bytes that a socket's name leaves: "+
			"%w; give unix_socket a shorter path and restart the agent", m.cfg.Dir, maxDir, export.ErrConfig)
	}
	p := &prepared{mapper: m, volume: v}
	if !readOnly {
		page, err := m.cfg.Page()
		if err != nil {
			return nil, err
		}
		defer page.Close()
		if p.page, err = attach.PageInode(page); err != nil {
			return nil, err
		}
		p.child, err = m.cfg.Spawn(page)
		if err != nil {
			return nil, fmt.Errorf("starting the export: %w", err)
		}
		return p.found()
	}
	var err error
	if p.child, err = m.cfg.Spawn(nil); err != nil {
		return nil, fmt.Errorf("starting the export: %w", err)
	}
	return p.found()
}

// prepared is a process that waits for its specification.
type prepared struct {
	mapper *Mapper
	volume attach.Volume
	child  Child
	page   uint64 // inode of the page that it was given; 0: none
	start  uint64
}

// found learns when the process started. It is a child of ours whose status nobody takes before its end is waited for, so that
// its number is its own.
func (p *prepared) found() (attach.Prepared, error) {
	var err error
	if p.start, err = keeper.StartTime(p.child.PID); err != nil {
		return nil, errors.Join(fmt.Errorf("the export's process: %w", err), p.closePipes())
	}
	return p, nil
}

func (p *prepared) closePipes() error {
	return errors.Join(p.child.Spec.Close(), p.child.Ready.Close())
}

// Process is the export's process.
func (p *prepared) Process() attach.Process {
	return attach.Process{PID: p.child.PID, StartTime: p.start}
}

// Map tells the process what to serve, and waits until clients can connect.
func (p *prepared) Map(ctx context.Context, r attach.MapRequest) (attach.Mapping, error) {
	if err := p.samePage(); err != nil {
		return nil, err
	}
	spec, err := p.spec(r)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline() // none is no deadline for the pipe too
	if err := p.child.Ready.SetReadDeadline(deadline); err != nil {
		return nil, fmt.Errorf("start of the export: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.child.Ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("start of the export: %w", err)
	}
	_, err = p.child.Spec.Write(b)
	if err = errors.Join(err, p.child.Spec.Close()); err != nil {
		return nil, fmt.Errorf("start of the export: %w", err)
	}
	_, err = export.ReadReady(p.child.Ready)
	if err = errors.Join(err, p.child.Ready.Close()); err != nil {
		return nil, fmt.Errorf("start of the export: %w", err)
	}
	return p.mapper.dial(ctx, p.volume.Domain, p.volume.ID, p.Process())
}

// samePage makes sure that the lease is published in the page that the process has: the keeper may be another one by now.
func (p *prepared) samePage() error {
	if p.page == 0 {
		return nil
	}
	now, err := p.mapper.cfg.Page()
	if err != nil {
		return err
	}
	defer now.Close()
	if n, err := attach.PageInode(now); err != nil || n != p.page {
		return errors.Join(fmt.Errorf("the keeper was replaced meanwhile: %w; try again", keeper.ErrGone), err)
	}
	return nil
}

// spec is what the process serves.
func (p *prepared) spec(r attach.MapRequest) (export.Spec, error) {
	v, s := r.Volume, export.DefaultSpec()
	s.Name, s.MaxBytes, s.ReadOnly, s.ThresholdBytes, s.HighBytes = v.ID, v.SizeBytes, r.ReadOnly, r.ThresholdBytes, r.HighBytes
	s.Socket, s.Control = p.mapper.sockets(v.Domain, v.ID)
	s.IOTimeoutMS = v.IOTimeout.Milliseconds()
	s.Segments = segments(v.Segments)
	s.Guard = r.Held.Guard
	return s, s.Validate()
}

func segments(list []attach.Segment) []export.SegmentSpec {
	out := make([]export.SegmentSpec, 0, len(list))
	for _, g := range list {
		out = append(out, export.SegmentSpec(g))
	}
	return out
}

// Cancel ends the process by force. No client knows of it, so nothing is lost.
func (p *prepared) Cancel(ctx context.Context) error {
	_ = p.closePipes() // they may be closed already
	return attach.EndProcess(ctx, p.Process())
}

// Find takes up the export of an earlier agent.
func (m *Mapper) Find(ctx context.Context, r attach.Record) (attach.Mapping, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	return m.dial(ctx, r.Domain, r.Volume, r.Process)
}

// findTimeout bounds the look for an export, which answers at once if it is well.
const findTimeout = 5 * time.Second

// dial connects to the process of a volume.
func (m *Mapper) dial(ctx context.Context, domain, volume string, p attach.Process) (attach.Mapping, error) {
	clients, control := m.sockets(domain, volume)
	c, hello, err := export.Dial(ctx, control)
	if errors.Is(err, export.ErrNoProcess) {
		return nil, fmt.Errorf("%w: %w", attach.ErrNotMapped, err)
	}
	if err != nil {
		return nil, err
	}
	if hello.PID != p.PID || hello.Spec.Name != volume {
		return nil, errors.Join(fmt.Errorf("%w: process %d serves %s there, not process %d", attach.ErrNotMapped, hello.PID, hello.Spec.Name, p.PID), c.Close())
	}
	uri := url.URL{Scheme: "nbd+unix", Path: "/" + volume, RawQuery: "socket=" + clients}
	return &mapping{client: c, process: p, where: attach.Where{URI: uri.String(), Socket: clients}}, nil
}

// End kills the process of a record and waits for its end. Its direct I/O on devices of the kernel is over then.
func (m *Mapper) End(ctx context.Context, r attach.Record) error {
	return attach.EndProcess(ctx, r.Process)
}

// Clear is End: the sockets go with the process, or are replaced.
func (m *Mapper) Clear(ctx context.Context, r attach.Record) error { return m.End(ctx, r) }

// Fail has nothing to do: clients get errors when their patience ends.
func (m *Mapper) Fail(context.Context, attach.Record) error { return nil }

// Fits takes every volume.
func (m *Mapper) Fits(attach.Volume) error { return nil }
