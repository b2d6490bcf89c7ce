package dm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/internal/procs"
)

// mapping is a device and its holder. How far it is written the kernel does not count: the guest's QEMU does, see attach.QMP.
type mapping struct {
	mapper  *Mapper
	socket  string
	process attach.Process
	device  attach.Device
	path    string
	most    int64 // the size that it may grow to

	end  net.Conn      // broken at the end of the holder
	gone chan struct{} // closed then, or by Close

	mu   sync.Mutex // guards what follows
	seq  uint64
	size int64
	news chan struct{} // closed by the next event
}

// dial connects to the holder that a record names.
func (m *Mapper) dial(ctx context.Context, rec attach.Record) (attach.Mapping, error) {
	socket := m.socket(rec.Domain, rec.Volume)
	r, err := ask(ctx, socket, request{Ask: askState})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", attach.ErrNotMapped, err)
	}
	if r.PID != rec.Process.PID || r.Volume != rec.Volume {
		return nil, fmt.Errorf("%w: process %d looks after %s there, not process %d", attach.ErrNotMapped, r.PID, r.Volume, rec.Process.PID)
	}
	var d net.Dialer
	end, err := d.DialContext(ctx, "unix", socket)
	if err == nil {
		err = writeLine(end, request{Ask: askEnd})
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", attach.ErrNotMapped, err)
	}
	x := &mapping{mapper: m, socket: socket, process: rec.Process, device: rec.Device, path: r.Path, most: rec.Size, end: end, gone: make(chan struct{}), seq: 1,
		size: r.AllocatedBytes, news: make(chan struct{})}
	go func() {
		defer close(x.gone)
		_, _ = end.Read(make([]byte, 1)) // nothing ever comes
	}()
	return x, nil
}

// ask is one question to a holder.
func ask(ctx context.Context, socket string, q request) (reply, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*opTimeout)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	q.TimeoutMS = max(1, (time.Until(deadline) * 9 / 10).Milliseconds())
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return reply{}, fmt.Errorf("%w: %w", attach.ErrGone, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var r reply
	if err := errors.Join(c.SetDeadline(deadline), writeLine(c, q)); err != nil {
		return reply{}, fmt.Errorf("%w: %w", attach.ErrGone, err)
	}
	if err := readLine(c, &r); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return reply{}, fmt.Errorf("the device's holder does not answer: %w", err)
	}
	return r, r.err()
}

// Where is the device's node.
func (m *mapping) Where() attach.Where { return attach.Where{Path: m.path} }

// Status asks the holder.
func (m *mapping) Status(ctx context.Context) (attach.Status, error) {
	r, err := ask(ctx, m.socket, request{Ask: askState})
	if err != nil {
		return attach.Status{}, err
	}
	st := m.known()
	st.Clients = r.Open
	return st, nil
}

// known is what needs no question.
func (m *mapping) known() attach.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return attach.Status{Seq: m.seq, AllocatedBytes: m.size, SizeBytes: max(m.size, m.most)}
}

// Openers names the processes that have the device open, for people.
func (m *mapping) Openers() []string { return procs.Openers(m.path) }

// Watch returns when the device has grown or its holder has ended.
func (m *mapping) Watch(ctx context.Context, seq uint64) (attach.Status, error) {
	for {
		m.mu.Lock()
		now, news := m.seq, m.news
		m.mu.Unlock()
		if now != seq {
			return m.known(), nil
		}
		select {
		case <-news:
		case <-m.gone:
			return attach.Status{}, attach.ErrGone
		case <-ctx.Done():
			return attach.Status{}, context.Cause(ctx)
		}
	}
}

// Grow loads the longer table.
func (m *mapping) Grow(ctx context.Context, segs []attach.Segment) (attach.Status, error) {
	r, err := ask(ctx, m.socket, request{Ask: askGrow, Segments: segs})
	if err != nil {
		return attach.Status{}, err
	}
	m.mu.Lock()
	if r.AllocatedBytes > m.size {
		m.size = r.AllocatedBytes
		m.seq++
		close(m.news)
		m.news = make(chan struct{})
	}
	m.mu.Unlock()
	return m.known(), nil
}

// Demote lets the holder go on without a guard: from here on the device is for reading.
func (m *mapping) Demote(ctx context.Context) error {
	_, err := ask(ctx, m.socket, request{Ask: askDemote})
	return err
}

// Close leaves device and holder alone.
func (m *mapping) Close() error {
	err := m.end.Close()
	<-m.gone
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Detach removes the device, and waits for the end of the holder. A device that is open stays, and fails from now on whatever is
// done to it: the error names it, and Detach is to be tried again.
func (m *mapping) Detach(ctx context.Context) error {
	h, err := attach.OpenProcess(m.process)
	if errors.Is(err, procs.ErrGone) {
		return m.mapper.Clear(ctx, attach.Record{Process: m.process, Device: m.device})
	}
	if err != nil {
		return fmt.Errorf("%w: %w", attach.ErrStillThere, err)
	}
	defer h.Close()
	if _, err := ask(ctx, m.socket, request{Ask: askDetach}); err != nil {
		if errors.Is(err, kernel.ErrOpen) {
			return fmt.Errorf("%w: %s: %w", attach.ErrStillThere, m.path, err)
		}
		return fmt.Errorf("%w: %w", attach.ErrStillThere, err)
	}
	return attach.AwaitProcess(ctx, h)
}
