package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/mapper/qmp"
)

// QMP names the monitor of the QEMU that uses an attached volume. Nobody else may be connected to it.
type QMP struct {
	Socket string `json:"socket,omitempty"` // empty: none
	// Node is QEMU's name of the node on the volume's own device; empty: the one that BlockDev gives it.
	Node string `json:"node,omitempty"`
}

// ErrQMP says that a monitor cannot be that of a volume.
var ErrQMP = errors.New("invalid QMP socket")

const (
	maxSocketPath = 107
	maxNodeName   = 31
)

// validate refuses what cannot be meant.
func (q QMP) validate() error {
	switch {
	case q == QMP{}:
	case q.Socket == "":
		return fmt.Errorf("%w: the node %.40q without a socket", ErrQMP, q.Node)
	case !filepath.IsAbs(q.Socket) || filepath.Clean(q.Socket) != q.Socket || len(q.Socket) > maxSocketPath:
		return fmt.Errorf("%w: %.120q: want an absolute path of at most %d bytes", ErrQMP, q.Socket, maxSocketPath)
	case len(q.Node) > maxNodeName:
		return fmt.Errorf("%w: node %.40q: QEMU's names have at most %d characters", ErrQMP, q.Node, maxNodeName)
	}
	return nil
}

// node is the node on the volume's device.
func (q QMP) node(volume string) string {
	if q.Node != "" {
		return q.Node
	}
	return deviceNode(volume)
}

// guests are the connections to the QEMUs of this host's guests: one for each socket, whatever the number of its volumes, since QEMU
// serves one client of a socket at a time.
type guests struct {
	log *slog.Logger

	mu   sync.Mutex // guards all, and the users of each
	open map[string]*monitor
}

// monitor is one connection, which lasts as long as somebody uses it.
type monitor struct {
	*qmp.Monitor
	socket string
	users  int
	stop   context.CancelFunc
	ended  chan struct{}
}

// use is a connection to a socket. It is made again whenever it breaks, until leave; nothing says that it is there yet.
func (g *guests) use(ctx context.Context, socket string) (*monitor, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.open[socket]; m != nil {
		m.users++
		return m, nil
	}
	cfg := qmp.DefaultConfig()
	cfg.Socket, cfg.Log = socket, g.log
	mon, err := qmp.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQMP, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &monitor{Monitor: mon, socket: socket, users: 1, stop: cancel, ended: make(chan struct{})}
	if g.open == nil {
		g.open = map[string]*monitor{}
	}
	g.open[socket] = m
	go func() {
		defer close(m.ended)
		_ = mon.Run(ctx) // ends with ctx alone
	}()
	return m, nil
}

// leave ends the connection with its last user.
func (g *guests) leave(m *monitor) {
	g.mu.Lock()
	m.users--
	last := m.users == 0
	if last {
		delete(g.open, m.socket)
	}
	g.mu.Unlock()
	if last {
		m.stop()
		<-m.ended
	}
}

// guest is a volume that is watched through its guest's QEMU.
type guest struct {
	all *guests
	mon *monitor
	vol *qmp.Volume
}

// statusTimeout bounds the question how large a mapping is.
const statusTimeout = 5 * time.Second

// watchGuest begins to watch what a record says; nil when it names no monitor, or the volume does not grow.
func (m *Manager) watchGuest(ctx context.Context, r Record, mapping Mapping) (*guest, error) {
	if r.QMP.Socket == "" || r.ReadOnly || !r.Grows {
		return nil, nil
	}
	sctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := mapping.Status(sctx)
	if err != nil {
		return nil, err
	}
	mon, err := m.guests.use(ctx, r.QMP.Socket)
	if err != nil {
		return nil, err
	}
	vol, err := mon.Add(qmp.VolumeConfig{Node: r.QMP.node(r.Volume), Above: []string{nodeName(r.Volume)}, AllocatedBytes: st.AllocatedBytes,
		MaxBytes: max(st.SizeBytes, st.AllocatedBytes), ThresholdBytes: m.cfg.Growth.Threshold(), HighBytes: max(r.HighBytes, st.HighBytes)})
	if err != nil {
		m.guests.leave(mon)
		return nil, fmt.Errorf("%w: %w", ErrQMP, err)
	}
	return &guest{all: &m.guests, mon: mon, vol: vol}, nil
}

// end takes the volume out; nil has nothing to end.
func (g *guest) end() {
	if g == nil {
		return
	}
	g.mon.Remove(g.vol)
	g.all.leave(g.mon)
}
