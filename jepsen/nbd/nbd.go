// Package nbd is a client of NBD exports, as small as it can be: one request at a time, and everything that the server says is
// told as it is. It shares nothing with the program's client, which it helps to judge.
package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"
)

// Error is a server's answer: the request failed, and the connection goes on.
type Error struct{ Errno uint32 }

func (e *Error) Error() string { return fmt.Sprintf("the export answers with error %d", e.Errno) }

// ENOSPC is the answer to a write for which there was no space in time.
const ENOSPC = 28

const (
	cmdRead  = 0
	cmdWrite = 1
	cmdDisc  = 2
	cmdFlush = 3

	requestMagic = 0x25609513
	replyMagic   = 0x67446698
)

// Conn is a connection to an export. It is for one caller at a time. After an error other than *Error it is of no use.
type Conn struct {
	sock   net.Conn
	Size   int64
	handle uint64
}

// Dial connects to nbd+unix:///EXPORT?socket=PATH.
func Dial(ctx context.Context, uri string) (*Conn, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "nbd+unix" {
		return nil, errors.Join(fmt.Errorf("%q is no address of an export on a unix socket", uri), err)
	}
	var d net.Dialer
	sock, err := d.DialContext(ctx, "unix", u.Query().Get("socket"))
	if err != nil {
		return nil, fmt.Errorf("connecting to an export: %w", err)
	}
	c := &Conn{sock: sock}
	defer c.until(ctx)()
	if err := c.shake(strings.TrimPrefix(u.Path, "/")); err != nil {
		return nil, errors.Join(fmt.Errorf("shaking hands with an export: %w", err), sock.Close())
	}
	return c, nil
}

// until ends what waits for the socket when ctx ends.
func (c *Conn) until(ctx context.Context) (done func()) {
	stop := context.AfterFunc(ctx, func() { _ = c.sock.SetDeadline(time.Unix(1, 0)) }) // fails on a closed socket only
	return func() { stop() }
}

// shake is the fixed newstyle greeting, and the option EXPORT_NAME.
func (c *Conn) shake(name string) error {
	var hello struct {
		Magic, Option uint64
		Flags         uint16
	}
	if err := binary.Read(c.sock, binary.BigEndian, &hello); err != nil {
		return err
	}
	if hello.Magic != 0x4e42444d41474943 || hello.Option != 0x49484156454f5054 || hello.Flags&3 != 3 {
		return fmt.Errorf("it is no server of our kind: %x", hello)
	}
	b := binary.BigEndian.AppendUint32(nil, 3) // fixed newstyle, no zeroes
	b = append(b, "IHAVEOPT"...)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	if _, err := c.sock.Write(append(b, name...)); err != nil {
		return err
	}
	var export struct {
		Size  int64
		Flags uint16
	}
	err := binary.Read(c.sock, binary.BigEndian, &export)
	c.Size = export.Size
	return err
}

// request is the frame of a request, without its data.
func request(cmd uint16, handle uint64, off int64, n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, requestMagic)
	b = binary.BigEndian.AppendUint32(b, uint32(cmd)) // flags, which are none, come first
	b = binary.BigEndian.AppendUint64(b, handle)
	b = binary.BigEndian.AppendUint64(b, uint64(off))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// call sends a request and waits for its reply.
func (c *Conn) call(ctx context.Context, cmd uint16, off int64, n int, data, into []byte) error {
	defer c.until(ctx)()
	c.handle++
	if _, err := c.sock.Write(append(request(cmd, c.handle, off, n), data...)); err != nil {
		return fmt.Errorf("asking an export: %w", err)
	}
	var reply struct {
		Magic, Errno uint32
		Handle       uint64
	}
	if err := binary.Read(c.sock, binary.BigEndian, &reply); err != nil {
		return fmt.Errorf("waiting for an export: %w", err)
	}
	if reply.Magic != replyMagic || reply.Handle != c.handle {
		return fmt.Errorf("an export answers another request: %+v", reply)
	}
	if reply.Errno != 0 {
		return &Error{reply.Errno}
	}
	if _, err := io.ReadFull(c.sock, into); err != nil {
		return fmt.Errorf("reading from an export: %w", err)
	}
	return nil
}

// Write writes b at off.
func (c *Conn) Write(ctx context.Context, b []byte, off int64) error {
	return c.call(ctx, cmdWrite, off, len(b), b, nil)
}

// Read fills b from off.
func (c *Conn) Read(ctx context.Context, b []byte, off int64) error {
	return c.call(ctx, cmdRead, off, len(b), nil, b)
}

// Flush makes durable what was acknowledged.
func (c *Conn) Flush(ctx context.Context) error { return c.call(ctx, cmdFlush, 0, 0, nil, nil) }

// Close says goodbye, as far as that can be said at once.
func (c *Conn) Close() error {
	_ = c.sock.SetDeadline(time.Now().Add(time.Second)) // fails on a closed socket only
	_, _ = c.sock.Write(request(cmdDisc, 0, 0, 0))      // it may have hung up
	return c.sock.Close()
}
