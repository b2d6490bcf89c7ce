package qmp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Monitor watches the volumes of one guest through its QEMU's monitor. It connects again for as long as Run runs: QEMU may come
// later, and events that were missed are made up for by a look at everything.
type Monitor struct {
	cfg  Config
	kick chan struct{} // a volume needs a look
	dial func(context.Context) (*Conn, error)

	tasks chan task // of Do

	mu      sync.Mutex // guards what follows
	volumes []*Volume
	ended   bool
}

// Volume is one volume of a guest. It is safe for concurrent use.
type Volume struct {
	cfg   VolumeConfig
	book  *book
	mon   *Monitor
	alarm atomic.Int64 // the write threshold that QEMU has; 0 for none. Set by the monitor's loop only
	above atomic.Pointer[[]string]
}

// New makes a monitor; Run does the work.
func New(c Config) (*Monitor, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Monitor{cfg: c, kick: make(chan struct{}, 1), tasks: make(chan task),
		dial: func(ctx context.Context) (*Conn, error) { return Dial(ctx, c.Socket) }}, nil
}

// Add begins to watch a volume, until Remove.
func (m *Monitor) Add(c VolumeConfig) (*Volume, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil, ErrEnded
	}
	for _, v := range m.volumes {
		if v.cfg.Node == c.Node {
			return nil, fmt.Errorf("%w: node %s is watched already", ErrConfig, c.Node)
		}
	}
	v := &Volume{cfg: c, book: newBook(c), mon: m}
	m.volumes = append(m.volumes, v)
	m.look()
	return v, nil
}

// Remove ends the watching of a volume.
func (m *Monitor) Remove(v *Volume) {
	m.mu.Lock()
	m.volumes = slices.DeleteFunc(m.volumes, func(x *Volume) bool { return x == v })
	m.mu.Unlock()
	v.end()
}

// Watch returns the state as soon as its Seq is not seq, which is at once for 0: call it again with the Seq of the last answer.
// ErrEnded ends it. It is the shape of an export's Watch.
func (v *Volume) Watch(ctx context.Context, seq uint64) (Status, error) {
	return v.book.watch(ctx, seq)
}

// Status is the state at this moment.
func (v *Volume) Status() Status { return v.book.status() }

// Grow says that the volume's device has this size now: the threshold moves, and a guest that was paused for lack of space
// goes on. A smaller size is old news and no error. It returns at once; Watch shows what comes of it.
func (v *Volume) Grow(allocated int64) Status {
	v.book.grow(allocated)
	v.mon.look()
	return v.book.status()
}

func (v *Volume) end() {
	v.book.update(func(s *Status) bool {
		s.Ended, s.Connected = true, false
		return true
	})
}

// look makes the loop look at all volumes.
func (m *Monitor) look() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

func (m *Monitor) all() []*Volume {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.volumes)
}

// Run watches until ctx ends. Volumes end with it.
func (m *Monitor) Run(ctx context.Context) error {
	defer m.end()
	for ctx.Err() == nil {
		err := m.session(ctx)
		if ctx.Err() != nil {
			break
		}
		m.cfg.Log.Warn("QEMU is not watched", "socket", m.cfg.Socket, "error", err)
		for _, v := range m.all() {
			v.book.connected(err)
		}
		select {
		case <-time.After(m.cfg.RetryEvery):
		case <-ctx.Done():
		}
	}
	return nil
}

func (m *Monitor) end() {
	m.mu.Lock()
	m.ended = true
	all := m.volumes
	m.volumes = nil
	m.mu.Unlock()
	for _, v := range all {
		v.end()
	}
}

// session is one connection.
func (m *Monitor) session(ctx context.Context) error {
	dctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	c, err := m.dial(dctx)
	cancel()
	if err != nil {
		return err
	}
	for _, v := range m.all() {
		v.alarm.Store(0)
	}
	err = m.serve(ctx, c)
	return errors.Join(err, c.Close())
}

// serve looks at all volumes now, at each event, from time to time, and when told to.
func (m *Monitor) serve(ctx context.Context, c *Conn) error {
	for {
		low, err := m.lookAtAll(ctx, c)
		if err != nil {
			return err
		}
		if err := m.wait(ctx, c, low); err != nil {
			return err
		}
	}
}

// wait returns when it is time to look again.
func (m *Monitor) wait(ctx context.Context, c *Conn, low bool) error {
	every := m.cfg.PollEvery
	if low {
		every = m.cfg.LowPollEvery
	}
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-c.Events():
			if !ok {
				return c.reason()
			}
			if !m.happened(e) {
				continue
			}
		case <-timer.C:
		case <-m.kick:
		case t := <-m.tasks:
			t.done <- t.do(t.ctx, c)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return nil
	}
}

// happened gives an event to the volume that it is about, and tells whether there is one.
func (m *Monitor) happened(e Event) (ours bool) {
	for _, v := range m.all() {
		is, err := v.happened(e)
		if err != nil {
			m.cfg.Log.Warn("an event of QEMU's is not understood", "error", err)
		}
		ours = ours || is || err != nil
	}
	return ours
}

// lookAtAll asks how things are. A volume that QEMU does not know does not hold up the others.
func (m *Monitor) lookAtAll(ctx context.Context, c *Conn) (low bool, err error) {
	for _, v := range m.all() {
		cctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
		err := v.look(cctx, c)
		cancel()
		var refused *Error
		if err != nil && !errors.Is(err, ErrNoNode) && !errors.As(err, &refused) {
			return false, err
		}
		v.book.connected(err)
		low = low || err != nil || v.book.status().Low
	}
	return low, nil
}
