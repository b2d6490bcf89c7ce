package export

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
)

type atomicError struct{ p atomic.Pointer[error] }

func (a *atomicError) set(err error) { a.p.Store(&err) }
func (a *atomicError) load() error {
	if p := a.p.Load(); p != nil {
		return *p
	}
	return nil
}

// peer is an NBD client for tests: one request at a time, every byte of the protocol written out.
type peer struct {
	sock       net.Conn
	structured bool
	cookie     uint64
}

// connect gives s a client over a pipe.
func connect(t testing.TB, s *Server, structured bool) *peer {
	t.Helper()
	ours, theirs := net.Pipe()
	s.serve(theirs)
	t.Cleanup(func() { ours.Close() })
	p := &peer{sock: ours}
	if err := p.greet(); err != nil {
		t.Fatal(err)
	}
	if structured {
		p.structured = true
		p.mustOption(t, optStructured, nil, repAck)
		p.mustOption(t, optSetContext, contextPayload("vol", contextName), repContext, repAck)
	}
	p.mustOption(t, optGo, goPayload("vol"), repInfo, repInfo, repAck)
	return p
}

func (p *peer) greet() error {
	var b [greetingSize]byte
	if _, err := io.ReadFull(p.sock, b[:]); err != nil {
		return err
	}
	_, err := p.sock.Write(binary.BigEndian.AppendUint32(nil, greetFixedNewstyle|greetNoZeroes))
	return err
}

func goPayload(name string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	return binary.BigEndian.AppendUint16(append(b, name...), 0)
}

func contextPayload(name string, queries ...string) []byte {
	b := append(binary.BigEndian.AppendUint32(nil, uint32(len(name))), name...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(queries)))
	for _, q := range queries {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(q))), q...)
	}
	return b
}

func optionBytes(kind uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, magicOption)
	b = binary.BigEndian.AppendUint32(b, kind)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
}

// mustOption sends an option and wants replies of these kinds, whose data it returns.
func (p *peer) mustOption(t testing.TB, kind uint32, data []byte, want ...uint32) [][]byte {
	t.Helper()
	if _, err := p.sock.Write(optionBytes(kind, data)); err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, w := range want {
		var h [20]byte
		if _, err := io.ReadFull(p.sock, h[:]); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, binary.BigEndian.Uint32(h[16:]))
		if _, err := io.ReadFull(p.sock, got); err != nil {
			t.Fatal(err)
		}
		if k := binary.BigEndian.Uint32(h[12:]); k != w || binary.BigEndian.Uint32(h[8:]) != kind {
			t.Fatalf("option %d: reply %#x, want %#x", kind, k, w)
		}
		all = append(all, got)
	}
	return all
}

func requestBytes(q request) []byte {
	b := binary.BigEndian.AppendUint32(nil, magicRequest)
	b = binary.BigEndian.AppendUint16(b, q.flags)
	b = binary.BigEndian.AppendUint16(b, q.cmd)
	b = binary.BigEndian.AppendUint64(b, q.cookie)
	b = binary.BigEndian.AppendUint64(b, q.off)
	return binary.BigEndian.AppendUint32(b, q.n)
}

// send writes a request with the data of a write.
func (p *peer) send(q request, data []byte) (request, error) {
	p.cookie++
	q.cookie = p.cookie
	_, err := p.sock.Write(append(requestBytes(q), data...))
	return q, err
}

// do makes one request and waits for its end. Data of a read goes to into.
func (p *peer) do(q request, data, into []byte) error {
	q, err := p.send(q, data)
	if err != nil {
		return err
	}
	return p.reply(q, into)
}

func (p *peer) reply(q request, into []byte) error {
	for {
		var m [4]byte
		if _, err := io.ReadFull(p.sock, m[:]); err != nil {
			return err
		}
		if binary.BigEndian.Uint32(m[:]) == magicSimple {
			return p.simple(q, into)
		}
		if done, err := p.chunk(q, into); done || err != nil {
			return err
		}
	}
}

func (p *peer) simple(q request, into []byte) error {
	var b [simpleSize - 4]byte
	if _, err := io.ReadFull(p.sock, b[:]); err != nil {
		return err
	}
	if c := binary.BigEndian.Uint64(b[4:]); c != q.cookie {
		return fmt.Errorf("reply to %d, want %d", c, q.cookie)
	}
	if e := binary.BigEndian.Uint32(b[:]); e != 0 {
		return unix.Errno(e)
	}
	if q.cmd == cmdRead {
		_, err := io.ReadFull(p.sock, into)
		return err
	}
	return nil
}

func (p *peer) chunk(q request, into []byte) (done bool, err error) {
	var b [chunkSize - 4]byte
	if _, err := io.ReadFull(p.sock, b[:]); err != nil {
		return false, err
	}
	body := make([]byte, binary.BigEndian.Uint32(b[12:]))
	if _, err := io.ReadFull(p.sock, body); err != nil {
		return false, err
	}
	if c := binary.BigEndian.Uint64(b[4:]); c != q.cookie {
		return false, fmt.Errorf("chunk for %d, want %d", c, q.cookie)
	}
	done = binary.BigEndian.Uint16(b[:])&chunkDone != 0
	switch kind := binary.BigEndian.Uint16(b[2:]); kind {
	case chunkData:
		copy(into[binary.BigEndian.Uint64(body)-q.off:], body[8:])
	case chunkHole:
		from := binary.BigEndian.Uint64(body) - q.off
		clear(into[from : from+uint64(binary.BigEndian.Uint32(body[8:]))])
	case chunkStatus:
		copy(into, body[4:])
	case chunkError:
		return true, unix.Errno(binary.BigEndian.Uint32(body))
	case chunkNone:
	default:
		return false, fmt.Errorf("chunk of type %d", kind)
	}
	return done, nil
}

func (p *peer) write(off int64, data []byte, flags uint16) error {
	return p.do(request{cmd: cmdWrite, flags: flags, off: uint64(off), n: uint32(len(data))}, data, nil)
}

func (p *peer) read(off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0xEE // a byte that is not sent shows
	}
	return b, p.do(request{cmd: cmdRead, off: uint64(off), n: uint32(n)}, nil, b)
}

func (p *peer) command(cmd, flags uint16, off, n int64) error {
	return p.do(request{cmd: cmd, flags: flags, off: uint64(off), n: uint32(n)}, nil, nil)
}

// testConfig is a volume of a megabyte.
func testConfig() Config {
	c := DefaultConfig()
	c.Name, c.MaxBytes, c.Guard, c.ThresholdBytes = "vol", 1<<20, &right{}, 64<<10
	return c
}

// serveMem is a server over a device, with so much of it mapped.
func serveMem(t testing.TB, c Config, d blockdev.Device, allocated int64) *Server {
	t.Helper()
	s, err := New(c, []blockdev.Segment{{Dev: d, Off: 0, Len: allocated}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Detach(ctx) // a test that wants to know detaches itself
	})
	return s
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
