package blockdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script is a connection on which the server's part is fixed.
type script struct {
	io.Reader
	sent bytes.Buffer
}

func (s *script) Write(p []byte) (int, error) { return s.sent.Write(p) }

var be = binary.BigEndian

func greeting(flags uint16) []byte {
	b := be.AppendUint64(nil, nbdMagic)
	return be.AppendUint16(be.AppendUint64(b, nbdOptMagic), flags)
}

func optReply(kind uint32, data []byte) []byte {
	b := be.AppendUint64(nil, nbdReplyMagic)
	b = be.AppendUint32(be.AppendUint32(b, nbdOptGo), kind)
	return append(be.AppendUint32(b, uint32(len(data))), data...)
}

func exportInfo(size uint64, flags uint16) []byte {
	return optReply(nbdRepInfo, be.AppendUint16(be.AppendUint64([]byte{0, nbdInfoExport}, size), flags))
}

func blockInfo(least, preferred, most uint32) []byte {
	b := be.AppendUint32([]byte{0, nbdInfoBlockSize}, least)
	return optReply(nbdRepInfo, be.AppendUint32(be.AppendUint32(b, preferred), most))
}

const goodFlags = nbdHasFlags | nbdSendFlush

func goodHandshake() []byte {
	return slicesConcat(greeting(3), exportInfo(1<<20, goodFlags), blockInfo(512, 4096, 1<<20), optReply(nbdRepAck, nil))
}

func slicesConcat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestNBDHandshake(t *testing.T) {
	t.Parallel()
	ack := optReply(nbdRepAck, nil)
	for _, c := range []struct {
		name   string
		server []byte
		want   error
	}{
		{"good", goodHandshake(), nil},
		{"no block sizes", slicesConcat(greeting(1), exportInfo(512, goodFlags), ack), nil},
		{"unknown info", slicesConcat(greeting(1), optReply(nbdRepInfo, []byte{0, 99, 1}), exportInfo(512, goodFlags), ack), nil},
		{"not nbd", []byte("SSH-2.0-OpenSSH_9.9 is not what we want"), errNBD},
		{"oldstyle", slicesConcat(be.AppendUint64(nil, nbdMagic), make([]byte, 144)), errNBD},
		{"not fixed", greeting(2), ErrNotSupported},
		{"hangs up", greeting(1), io.EOF},
		{"cut reply", goodHandshake()[:40], io.ErrUnexpectedEOF},
		{"no info", slicesConcat(greeting(1), ack), errNBD},
		{"huge", slicesConcat(greeting(1), exportInfo(1<<63, goodFlags), ack), errNBD},
		{"no flags", slicesConcat(greeting(1), exportInfo(512, 0), ack), errNBD},
		{"block 0", slicesConcat(greeting(1), exportInfo(512, goodFlags), blockInfo(0, 0, 5), ack), errNBD},
		{"block 3", slicesConcat(greeting(1), exportInfo(512, goodFlags), blockInfo(3, 4096, 1<<20), ack), errNBD},
		{"max below min", slicesConcat(greeting(1), exportInfo(512, goodFlags), blockInfo(8192, 8192, 4096), ack), errNBD},
		{"short info", slicesConcat(greeting(1), optReply(nbdRepInfo, []byte{0, 0, 1})), errNBD},
		{"empty info", slicesConcat(greeting(1), optReply(nbdRepInfo, nil)), errNBD},
		{"long reply", slicesConcat(greeting(1), optReply(nbdRepAck, make([]byte, nbdMaxOptReply+1))), errNBD},
		{"endless", slicesConcat(greeting(1), bytes.Repeat(exportInfo(512, goodFlags), 100)), errNBD},
		{"unknown export", slicesConcat(greeting(1), optReply(nbdErrUnknown, []byte("no such thing"))), ErrGone},
		{"TLS", slicesConcat(greeting(1), optReply(nbdErrTLSReqd, nil)), ErrNotSupported},
		{"no GO", slicesConcat(greeting(1), optReply(nbdErrUnsup, nil)), ErrNotSupported},
	} {
		e, err := nbdHandshake(&script{Reader: bytes.NewReader(c.server)}, "x")
		if !errors.Is(err, c.want) || c.want == nil && (err != nil || e.size == 0 || e.maxBlock == 0) {
			t.Errorf("%s: %+v, %v", c.name, e, err)
		}
	}
	if _, err := nbdHandshake(&script{}, strings.Repeat("x", nbdMaxName+1)); err == nil {
		t.Error("overlong export name accepted")
	}
}

// FuzzNBDHandshake: no server makes the client panic, allocate much, or accept what it cannot use.
func FuzzNBDHandshake(f *testing.F) {
	f.Add(goodHandshake())
	f.Add(slicesConcat(greeting(1), exportInfo(512, goodFlags), optReply(nbdRepAck, nil)))
	f.Add(slicesConcat(greeting(1), optReply(nbdErrUnknown, []byte("\xff\xfe"))))
	f.Fuzz(func(t *testing.T, server []byte) {
		e, err := nbdHandshake(&script{Reader: bytes.NewReader(server)}, "x")
		if err == nil && (e.size < 0 || e.maxBlock < 512 || e.maxBlock > nbdDefaultMax || e.flags&nbdHasFlags == 0) {
			t.Errorf("accepted %+v", e)
		}
	})
}

// FuzzNBDReplies: no replies make a connection panic or give the caller anything but data or an error.
func FuzzNBDReplies(f *testing.F) {
	reply := func(errno uint32, handle uint64, data string) []byte {
		b := be.AppendUint32(be.AppendUint32(nil, nbdSimpleMagic), errno)
		return append(be.AppendUint64(b, handle), data...)
	}
	f.Add(reply(0, 1, strings.Repeat("d", 512)))
	f.Add(reply(5, 1, ""))
	f.Add(reply(0, 2, ""))
	f.Add(slicesConcat(reply(0, 1, strings.Repeat("d", 512)), reply(0, 1, "")))
	f.Add([]byte("garbage that is long enough"))
	f.Fuzz(func(t *testing.T, replies []byte) {
		d, server := pipeDevice(t)
		go func() {
			defer server.Close()
			go io.Copy(io.Discard, server)
			server.Write(replies)
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		p := make([]byte, 512)
		err := d.ReadAt(ctx, p, 0)
		if err == nil && len(replies) < nbdReplySize+512 {
			t.Error("read without data")
		}
		if errors.Is(err, ErrTimeout) {
			t.Error("the end of the connection was not noticed")
		}
		if d.Close(); d.Pending() != 0 {
			t.Errorf("%d pending", d.Pending())
		}
	})
}

// pipeDevice is a device whose connection ends in the test; it cannot reconnect.
func pipeDevice(t *testing.T) (*nbd, net.Conn) {
	t.Helper()
	o, err := Options{IOTimeout: time.Millisecond}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	d := &nbd{uri: "nbd://test/", network: "unix", address: "/nowhere", o: o, size: 1 << 20, sectorSize: 512, maxBytes: 1 << 20,
		maxEffect: 1 << 20, flags: goodFlags, flight: newInflight(o), dialing: make(chan struct{}, 1)}
	d.closing, d.stop = context.WithCancel(context.Background())
	d.conn = newNBDConn(d, client)
	return d, server
}

// TestNBD_handles: a request that timed out keeps its handle; its late reply is thrown away and does not answer a
// later request.
func TestNBD_handles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // no time passes before the other side has read what was sent
		d, server := pipeDevice(t)
		defer d.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		requests := make(chan uint64, 2)
		go func() {
			for range 2 {
				var head [nbdRequestSize]byte
				if _, err := io.ReadFull(server, head[:]); err != nil {
					return
				}
				requests <- be.Uint64(head[8:])
			}
			for i := range 2 { // answer the abandoned one first
				b := be.AppendUint32(be.AppendUint32(nil, nbdSimpleMagic), 0)
				server.Write(append(be.AppendUint64(b, <-requests), bytes.Repeat([]byte{byte(i + 1)}, 512)...))
			}
		}()
		p := make([]byte, 512)
		if err := d.ReadAt(ctx, p, 0); !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.ReadAt(ctx, p, 0); err != nil || p[0] != 2 {
			t.Errorf("second read: %v, data of reply %d", err, p[0])
		}
		if d.Pending() != 0 || len(d.flight.slots) != 0 {
			t.Errorf("%d pending, %d slots taken", d.Pending(), len(d.flight.slots))
		}
	})
}

// TestNBD_halfSent: a request that got stuck half way breaks the connection and is unknown; one that did not get
// onto the wire at all surely failed.
func TestNBD_halfSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // no time passes before the other side has read what was sent
		d, server := pipeDevice(t)
		defer d.Close()
		go io.ReadFull(server, make([]byte, 100))
		soon := func() context.Context {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		}
		if err := d.WriteAt(soon(), make([]byte, 4096), 0); !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("half sent: %v", err)
		}
		if err := d.WriteAt(soon(), make([]byte, 4096), 0); !errors.Is(err, ErrGone) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("not sent: %v", err)
		}
		d2, _ := pipeDevice(t)
		defer d2.Close()
		if err := d2.WriteAt(soon(), make([]byte, 4096), 0); !errors.Is(err, ErrTimeout) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("not a byte sent: %v", err)
		}
		if d2.Pending() != 0 || d2.conn.broken() {
			t.Error("a connection on which nothing happened is broken")
		}
	})
}

func TestBufferClass(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 0, 512: 0, 4096: 0, 4097: 1, 8192: 1, 8193: 2, maxBuffer: 10} {
		if got := class(n); got != want {
			t.Errorf("class(%d) = %d, want %d", n, got, want)
		}
	}
	var p bufferPool
	a, err := p.get(5000)
	if err != nil || len(a) != 5000 || cap(a) != 8192 {
		t.Fatalf("%d of %d, %v", len(a), cap(a), err)
	}
	p.put(a)
	if b, _ := p.get(8192); &b[0] != &a[0] {
		t.Error("not used again")
	} else {
		p.close()
		p.put(b)
	}
	if p.bytes != 0 {
		t.Errorf("%d bytes kept after close", p.bytes)
	}
}
