package blockdev

import (
	"context"
	"fmt"
)

// ReadAt implements Device.
func (d *nbd) ReadAt(ctx context.Context, p []byte, off int64) error {
	return d.each(ctx, opRead, nbdCmdRead, p, off, int64(len(p)))
}

// WriteAt implements Device.
func (d *nbd) WriteAt(ctx context.Context, p []byte, off int64) error {
	return d.each(ctx, opWrite, nbdCmdWrite, p, off, int64(len(p)))
}

// Flush implements Device.
func (d *nbd) Flush(ctx context.Context) error {
	err := checkCall(ctx, d, 0, 0)
	if err == nil && d.flags&nbdSendFlush != 0 {
		_, err = d.call(ctx, opFlush, nbdCmdFlush, nil, 0, 0)
	}
	return opError(d, opFlush, 0, 0, err)
}

// WriteZeroes implements Device.
func (d *nbd) WriteZeroes(ctx context.Context, off, n int64) error {
	if d.flags&nbdSendWriteZeroes != 0 {
		return d.each(ctx, opZero, nbdCmdWriteZeroes, nil, off, n)
	}
	return d.each(ctx, opZero, nbdCmdWrite, make([]byte, max(0, min(n, d.maxBytes))), off, n)
}

// Discard implements Device.
func (d *nbd) Discard(ctx context.Context, off, n int64) error {
	if d.flags&nbdSendTrim == 0 {
		return opError(d, opDiscard, off, n, fmt.Errorf("%w: the nbd server has no trim", ErrNotSupported))
	}
	return d.each(ctx, opDiscard, nbdCmdTrim, nil, off, n)
}

// each cuts a call into requests of at most maxBytes. For zeroes by writing, p is one piece that is used again.
func (d *nbd) each(ctx context.Context, op string, cmd uint16, p []byte, off, n int64) error {
	if err := checkCall(ctx, d, off, n); err != nil {
		return opError(d, op, off, n, err)
	}
	if mutates(op) && (d.o.ReadOnly || d.flags&nbdReadOnly != 0) {
		return opError(d, op, off, n, ErrReadOnly)
	}
	step := d.maxBytes
	if p == nil { // no data travels
		step = d.maxEffect
	}
	for done := int64(0); done < n; {
		l := min(n-done, step)
		if err := d.piece(ctx, op, cmd, p, off, done, l); err != nil {
			if mutates(op) {
				err = partial(done, err)
			}
			return opError(d, op, off, n, err)
		}
		done += l
	}
	return nil
}

// piece is one request, with its part of the caller's data.
func (d *nbd) piece(ctx context.Context, op string, cmd uint16, p []byte, off, done, n int64) error {
	switch op {
	case opWrite:
		p = p[done : done+n]
	case opZero:
		p = p[:min(n, int64(len(p)))]
	}
	buf, err := d.call(ctx, op, cmd, p, off+done, n)
	if err == nil && op == opRead {
		copy(p[done:done+n], buf)
		d.buffers.put(buf)
	}
	return err
}

// call sends one request and waits for its reply. For a read it returns a buffer that the caller gives back.
func (d *nbd) call(ctx context.Context, op string, cmd uint16, p []byte, off, n int64) (buf []byte, err error) {
	if err := d.flight.enter(ctx); err != nil {
		return nil, err
	}
	conn, err := d.get(ctx)
	if err == nil && op == opRead {
		buf, err = d.buffers.get(int(n))
	}
	if err != nil {
		d.flight.leave()
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	call := &nbdCall{op: op, buf: buf, deadline: deadline, done: make(chan error, 1)}
	if op == opRead {
		p = nil
	}
	kept, err := conn.exchange(ctx, call, cmd, p, off, n)
	if kept {
		return nil, err
	}
	d.flight.leave()
	if err != nil {
		d.buffers.put(buf)
		return nil, err
	}
	return buf, nil
}

// exchange sends a request and waits. With kept, the connection keeps the call's slot and buffer until a reply.
func (c *nbdConn) exchange(ctx context.Context, call *nbdCall, cmd uint16, p []byte, off, n int64) (kept bool, err error) {
	handle, sent, err := c.send(ctx, call, cmd, p, off, n)
	if !sent {
		return false, err
	}
	select {
	case err := <-call.done:
		return false, err
	case <-ctx.Done():
	}
	if c.leave(handle) {
		return true, abandoned(ctx, call.op)
	}
	return false, <-call.done
}
