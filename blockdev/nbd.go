package blockdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// nbd is an export of an NBD server, reached over one connection at a time.
//
// A connection that breaks fails what was under way; the next call makes a new one. Whether the server carries out
// requests of a broken connection cannot be known, so mutations among them count as Pending for a while longer: to
// their own deadline, and at least Options.IOTimeout after the break. A server that takes longer than that to drop
// the work of a lost client is outside what this client can see.
type nbd struct {
	uri        string
	network    string
	address    string
	export     string
	o          Options
	size       int64
	sectorSize int
	maxBytes   int64 // longest read or write
	maxEffect  int64 // longest zeroing or discard
	flags      uint16
	flight     *inflight
	buffers    bufferPool
	closing    context.Context // ends with Close
	stop       context.CancelFunc

	dialing chan struct{} // one token: held while a connection is made

	mu     sync.Mutex // guards the fields below
	conn   *nbdConn   // nil, alive, or broken and not yet replaced
	lost   []time.Time
	closed bool
	conns  sync.WaitGroup // readers of connections
}

// openNBD connects and takes over what the server says about the export.
func openNBD(ctx context.Context, uri string, o Options) (Device, error) {
	d := &nbd{uri: uri, o: o, flight: newInflight(o), dialing: make(chan struct{}, 1)}
	if err := d.parse(uri); err != nil {
		return nil, err
	}
	d.closing, d.stop = context.WithCancel(context.Background())
	sock, e, err := d.dial(ctx)
	if err != nil {
		d.stop()
		return nil, err
	}
	if err := d.accept(e); err != nil {
		d.stop()
		return nil, errors.Join(err, sock.Close())
	}
	d.conn = newNBDConn(d, sock)
	return d, nil
}

// parse reads nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH.
func (d *nbd) parse(uri string) error {
	u, err := url.Parse(uri)
	if err != nil {
		return fmt.Errorf("nbd address: %w", err)
	}
	d.export = strings.TrimPrefix(u.Path, "/")
	if u.Scheme == "nbd+unix" {
		d.network, d.address = "unix", u.Query().Get("socket")
		if d.address == "" || u.Host != "" {
			return fmt.Errorf("nbd address %q: want nbd+unix:///EXPORT?socket=PATH", uri)
		}
		return nil
	}
	port := u.Port()
	if port == "" {
		port = "10809"
	}
	if u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("nbd address %q: want nbd://HOST[:PORT]/EXPORT", uri)
	}
	d.network, d.address = "tcp", net.JoinHostPort(u.Hostname(), port)
	return nil
}

// dial connects and shakes hands within ctx.
func (d *nbd) dial(ctx context.Context) (net.Conn, nbdExport, error) {
	dialer := net.Dialer{Control: d.tune}
	sock, err := dialer.DialContext(ctx, d.network, d.address)
	if err != nil {
		return nil, nbdExport{}, connectFailed(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = sock.SetDeadline(time.Unix(1, 0)) }) // fails only on a closed socket
	e, err := nbdHandshake(sock, d.export)
	if !stop() && err == nil {
		err = notSubmitted(ctx) // the late deadline may hit the connection's later life
	}
	if err != nil {
		return nil, nbdExport{}, errors.Join(connectFailed(ctx, err), sock.Close())
	}
	return sock, e, nil
}

// connectFailed says whether there was no time or no server.
func connectFailed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: connect to the nbd server: %w", notSubmitted(ctx), err)
	case errors.Is(err, ErrNotSupported), errors.Is(err, errNBD):
		return err
	}
	return fmt.Errorf("%w: connect to the nbd server: %w", ErrGone, err)
}

// tune makes the kernel give up on a server that no longer acknowledges data, so that a cut network is noticed and a
// healed one is used again at once instead of after minutes of backing off.
func (d *nbd) tune(network, _ string, c syscallConn) error {
	if network == "unix" {
		return nil
	}
	var inner error
	err := c.Control(func(fd uintptr) {
		ms := int(max(d.o.IOTimeout, 100*time.Millisecond) / time.Millisecond)
		inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, ms)
	})
	return errors.Join(err, inner)
}

// accept checks what the server said when the device is opened.
func (d *nbd) accept(e nbdExport) error {
	ss := d.o.SectorSize
	if ss == 0 {
		ss = 512
		if e.minBlock > 512 {
			ss = int(e.minBlock)
		}
	}
	if !validSector(ss) || e.minBlock > uint32(ss) {
		return fmt.Errorf("%w: the nbd server wants blocks of %d bytes", ErrNotSupported, e.minBlock)
	}
	d.sectorSize, d.size, d.flags = ss, e.size/int64(ss)*int64(ss), e.flags
	d.maxEffect = int64(e.maxBlock) / int64(ss) * int64(ss)
	d.maxBytes = min(maxBuffer, d.maxEffect)
	if d.size == 0 {
		return fmt.Errorf("%w: the nbd export has %d bytes", ErrGone, e.size)
	}
	if d.o.ReadOnly {
		return nil
	}
	if e.flags&nbdReadOnly != 0 {
		return ErrReadOnly
	}
	if e.flags&nbdSendFlush == 0 {
		return fmt.Errorf("%w: the nbd server cannot flush, so nothing written to it is ever known to be durable", ErrNotSupported)
	}
	return nil
}

// same checks that a new connection reached the export that was opened.
func (d *nbd) same(e nbdExport) error {
	const used = nbdSendFlush | nbdSendTrim | nbdSendWriteZeroes
	switch {
	case e.size < d.size:
		return fmt.Errorf("%w: the nbd export had %d bytes when it was opened and has %d now", ErrGone, d.size, e.size)
	case e.flags&nbdReadOnly != 0 && d.flags&nbdReadOnly == 0 && !d.o.ReadOnly:
		return fmt.Errorf("%w now", ErrReadOnly)
	case int(e.minBlock) > d.sectorSize || int64(e.maxBlock) < d.maxEffect || d.flags&used&^e.flags != 0:
		return fmt.Errorf("%w: the nbd server came back with less than it had", ErrGone)
	}
	return nil
}

// get returns a living connection, made now if need be.
func (d *nbd) get(ctx context.Context) (*nbdConn, error) {
	for {
		d.mu.Lock()
		c, closed := d.conn, d.closed
		d.mu.Unlock()
		if closed {
			return nil, fmt.Errorf("%w: closed", ErrGone)
		}
		if c != nil && !c.broken() {
			return c, nil
		}
		select {
		case d.dialing <- struct{}{}:
		case <-ctx.Done():
			return nil, notSubmitted(ctx)
		}
		err := d.reconnect(ctx)
		<-d.dialing
		if err != nil {
			return nil, err
		}
	}
}

// reconnect replaces a broken connection unless somebody else just did; caller holds the dialing token.
func (d *nbd) reconnect(ctx context.Context) error {
	d.mu.Lock()
	c, closed := d.conn, d.closed
	d.mu.Unlock()
	if closed || c != nil && !c.broken() {
		return nil // get looks again
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()
	sock, e, err := d.dial(ctx)
	if err != nil {
		return err
	}
	if err := d.same(e); err != nil {
		return errors.Join(err, sock.Close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return sock.Close()
	}
	d.conn = newNBDConn(d, sock)
	return nil
}

// lose notes mutations whose connection broke: they count as pending until the given moment.
func (d *nbd) lose(until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = append(d.lost, until)
}

// Name is the URI.
func (d *nbd) Name() string { return d.uri }

// Size is the export's size when it was opened, rounded down to whole sectors.
func (d *nbd) Size() int64 { return d.size }

// SectorSize is the server's minimum block size, 512 if that is less, or what Options said.
func (d *nbd) SectorSize() int { return d.sectorSize }

// Pending counts abandoned requests that have no reply, and for a while mutations whose connection broke.
func (d *nbd) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	kept := d.lost[:0]
	for _, until := range d.lost {
		if now.Before(until) {
			kept = append(kept, until)
		}
	}
	d.lost = kept
	return len(kept) + int(d.flight.pending.Load())
}

// Close says goodbye to the server and waits for the reader of the connection. Calls under way fail as with any
// broken connection.
func (d *nbd) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	c := d.conn
	d.mu.Unlock()
	d.stop()
	if c != nil {
		c.goodbye()
	}
	d.conns.Wait()
	d.buffers.close()
	return nil
}
