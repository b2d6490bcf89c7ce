package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

const (
	// sendTimeout bounds the writing of one command.
	sendTimeout = 5 * time.Second
	// maxEvents is how many events wait for a reader; of more the oldest are dropped, and Lost counts them.
	maxEvents = 256
	// maxCommand bounds what we send; QEMU would take more.
	maxCommand = 1 << 20
)

// Conn is a connection to QEMU in command mode. It is safe for concurrent use. Events must be read or are dropped.
type Conn struct {
	nc     net.Conn
	events chan Event
	reader sync.WaitGroup

	wmu sync.Mutex // held while a command is written

	mu      sync.Mutex // guards what follows
	nextID  uint64
	waiting map[uint64]chan message
	lost    uint64
	err     error // why the reader ended
}

// Dial connects to the unix socket at path and takes the connection into command mode, within ctx.
func Dial(ctx context.Context, path string) (*Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		return nil, blockdev.ErrNoDeadline
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connecting to QEMU: %w", err)
	}
	c, err := handshake(ctx, nc)
	if err != nil {
		return nil, fmt.Errorf("connecting to QEMU at %s: %w", path, err)
	}
	return c, nil
}

// handshake waits for the greeting and leaves negotiation mode. QEMU serves one connection of a socket at a time, and
// the greeting of a second one comes when the first is gone.
func handshake(ctx context.Context, nc net.Conn) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	r := bufio.NewReaderSize(nc, 64<<10)
	err := greet(r)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("no greeting (does something else hold the monitor?): %w", cause)
		}
		return nil, errors.Join(err, nc.Close())
	}
	c := &Conn{nc: nc, events: make(chan Event, maxEvents), waiting: map[uint64]chan message{}}
	c.reader.Go(func() { c.read(r) })
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func greet(r *bufio.Reader) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	m, err := decode(line)
	if err == nil && m.Greeting == nil {
		err = fmt.Errorf("%w: no greeting but %.80q", ErrProtocol, line)
	}
	return err
}

// Close hangs up and waits for the reader. What is under way fails with ErrClosed.
func (c *Conn) Close() error {
	err := c.nc.Close()
	c.reader.Wait()
	return err
}

// Events gives what happens. It is closed when the connection is gone.
func (c *Conn) Events() <-chan Event { return c.events }

// Lost is how many events were dropped because nobody read them: ask for the state.
func (c *Conn) Lost() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// Execute runs a command and waits for its answer, which goes into out unless that is nil. An *Error is QEMU's refusal. A
// command that is not answered within ctx may still be carried out: that is ErrOutcomeUnknown.
func (c *Conn) Execute(ctx context.Context, name string, args, out any) error {
	if _, ok := ctx.Deadline(); !ok {
		return blockdev.ErrNoDeadline
	}
	id, answer, err := c.expect()
	if err != nil {
		return fmt.Errorf("qemu: %s: %w", name, err)
	}
	defer c.forget(id)
	if err := c.send(command{Execute: name, Arguments: args, ID: id}); err != nil {
		return fmt.Errorf("qemu: %s: %w", name, err)
	}
	select {
	case m, ok := <-answer:
		return c.answered(name, m, ok, out)
	case <-ctx.Done():
		return fmt.Errorf("qemu: %s: %w: %w", name, blockdev.ErrOutcomeUnknown, context.Cause(ctx))
	}
}

func (c *Conn) answered(name string, m message, ok bool, out any) error {
	switch {
	case !ok:
		return fmt.Errorf("qemu: %s: %w: %w", name, blockdev.ErrOutcomeUnknown, c.reason())
	case m.Error != nil:
		m.Error.Command = name
		return m.Error
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(m.Return, out); err != nil {
		return fmt.Errorf("qemu: answer to %s: %w: %w", name, ErrProtocol, err)
	}
	return nil
}

// expect enters an id whose answer is going to be waited for.
func (c *Conn) expect() (uint64, chan message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	c.nextID++
	ch := make(chan message, 1)
	c.waiting[c.nextID] = ch
	return c.nextID, ch, nil
}

func (c *Conn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// send writes one line. After half a line nothing more can be said, so the connection ends.
func (c *Conn) send(cmd command) error {
	b, err := json.Marshal(cmd)
	if err != nil {
		return err
	}
	if len(b) > maxCommand {
		return fmt.Errorf("%w: a command of %d bytes", ErrProtocol, len(b))
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	err = c.nc.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err == nil {
		_, err = c.nc.Write(append(b, '\n'))
	}
	if err != nil {
		_ = c.nc.Close()
		return fmt.Errorf("%w: %w: %w", blockdev.ErrOutcomeUnknown, ErrClosed, err)
	}
	return nil
}

// reason is why the connection is gone.
func (c *Conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// read hands out what QEMU says until there is no more.
func (c *Conn) read(r *bufio.Reader) {
	var err error
	for err == nil {
		var line []byte
		if line, err = readLine(r); err == nil {
			err = c.deliver(line)
		}
	}
	_ = c.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("%w: %w", ErrClosed, err)
	for id, ch := range c.waiting {
		delete(c.waiting, id)
		close(ch)
	}
	close(c.events)
}

// deliver gives a line to whom it is for. Answers that nobody waits for any more are dropped.
func (c *Conn) deliver(line []byte) error {
	m, err := decode(line)
	if err != nil {
		return err
	}
	if m.Event != "" {
		c.keep(Event{Name: m.Event, Data: m.Data})
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.ID == nil {
		return nil // an error about a line that QEMU could not read
	}
	if ch, ok := c.waiting[*m.ID]; ok {
		delete(c.waiting, *m.ID)
		ch <- m
	}
	return nil
}

// keep queues an event, in the place of the oldest one if there are too many.
func (c *Conn) keep(e Event) {
	for {
		select {
		case c.events <- e:
			return
		default:
		}
		select {
		case <-c.events:
			c.mu.Lock()
			c.lost++
			c.mu.Unlock()
		default:
		}
	}
}
