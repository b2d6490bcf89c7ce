package export

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
)

// raw is a connection on which nothing was said yet.
func raw(t testing.TB, s *Server) *peer {
	t.Helper()
	ours, theirs := net.Pipe()
	s.serve(theirs)
	t.Cleanup(func() { ours.Close() })
	return &peer{sock: ours}
}

// wantDropped reads until the server hangs up.
func wantDropped(t testing.TB, what string, p *peer) {
	t.Helper()
	if _, err := io.Copy(io.Discard, p.sock); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func memServer(t testing.TB) *Server {
	return serveMem(t, testConfig(), blockdev.NewMem(1<<20, 512), 512*kib)
}

// TestServer_halfOpen: clients that do not go on lose the connection, those that came to work keep theirs.
func TestServer_halfOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memServer(t)
		idle := connect(t, s, true)
		silent, half := raw(t, s), raw(t, s)
		if err := half.greet(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		wantDropped(t, "half a handshake", half)
		wantDropped(t, "silent", silent)
		if d := time.Since(start); d != handshakeTime {
			t.Errorf("dropped after %v", d)
		}
		time.Sleep(24 * time.Hour) // of the bubble
		wantErr(t, "an idle client", idle.write(0, []byte{1}, 0), nil)
	})
}

// TestServer_stalled: neither the data of a write that does not come nor a reply that is not taken is waited for
// for ever, and what they held is free again.
func TestServer_stalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memServer(t)
		writer, reader, other := connect(t, s, true), connect(t, s, true), connect(t, s, true)
		if _, err := writer.send(request{cmd: cmdWrite, n: 1 << 19}, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		if _, err := reader.send(request{cmd: cmdRead, n: 1 << 19}, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantErr(t, "meanwhile", other.write(0, []byte{1}, 0), nil)
		time.Sleep(stallTime + time.Second) // of the bubble
		synctest.Wait()
		if st := s.Status(); st.Connections != 1 || s.mem.out != 0 {
			t.Errorf("%+v, %d bytes out", st, s.mem.out)
		}
	})
}

func TestServer_tooManyClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memServer(t)
		var all []*peer
		for range maxConns {
			all = append(all, connect(t, s, false))
		}
		wantDropped(t, "one too many", raw(t, s))
		all[0].sock.Close()
		synctest.Wait()
		wantErr(t, "after one left", connect(t, s, false).write(0, []byte{1}, 0), nil)
	})
}

func TestServer_badRequests(t *testing.T) {
	t.Parallel()
	s := memServer(t)
	p := connect(t, s, true)
	read := func(off, n int64) error { _, err := p.read(off, int(n)); return err }
	for _, c := range []struct {
		name string
		err  error
		want unix.Errno
	}{
		{"unknown command", p.command(99, 0, 0, 0), unix.EINVAL},
		{"unknown flag", p.command(cmdFlush, 1<<9, 0, 0), unix.EINVAL},
		{"fast zeroes", p.command(cmdWriteZeroes, reqFastZero, 0, 512), unix.EOPNOTSUPP},
		{"long read", read(0, maxRequest+1), unix.EINVAL},
		{"offset that overflows", p.command(cmdTrim, 0, -1, 1<<20), unix.EINVAL},
		{"offset and length that overflow", p.command(cmdWriteZeroes, 0, -512, 1<<31), unix.ENOSPC},
		{"empty block status", p.command(cmdBlockStatus, 0, 0, 0), unix.EINVAL},
		{"one chunk without chunks", connect(t, s, false).command(cmdRead, reqDF, 0, 512), unix.EINVAL},
		{"long write", p.write(0, make([]byte, maxRequest+1), 0), unix.ENOSPC},
	} {
		wantErr(t, c.name, c.err, c.want)
	}
	for name, err := range map[string]error{
		"cache": p.command(cmdCache, 0, 0, 1<<20), "nothing": p.write(0, nil, reqFUA), "no zeroes": p.command(cmdWriteZeroes, 0, 5, 0),
		"read nothing": read(3, 0), "after all that": p.write(3, []byte{1}, reqFUA),
	} {
		wantErr(t, name, err, nil)
	}
	for name, b := range map[string][]byte{
		"longer write than can be thrown away": requestBytes(request{cmd: cmdWrite, n: maxPayload + 1}),
		"bad magic":                            make([]byte, requestSize),
		"disconnect":                           requestBytes(request{cmd: cmdDisconnect}),
	} {
		p := connect(t, s, true)
		if _, err := p.sock.Write(b); err != nil {
			t.Error(err)
		}
		wantDropped(t, name, p)
	}
}

func TestHandshake_options(t *testing.T) {
	t.Parallel()
	s := memServer(t)
	p := raw(t, s)
	if err := p.greet(); err != nil {
		t.Fatal(err)
	}
	p.mustOption(t, 77, []byte("what"), repErrUnsup)
	if got := p.mustOption(t, optList, nil, repServer, repAck); !bytes.HasSuffix(got[0], []byte("vol")) {
		t.Errorf("%q", got)
	}
	p.mustOption(t, optList, []byte{1}, repErrInvalid)
	p.mustOption(t, optSetContext, contextPayload("vol", contextName), repErrInvalid) // before structured replies
	p.mustOption(t, optStructured, []byte{1}, repErrInvalid)
	p.mustOption(t, optStructured, nil, repAck)
	p.mustOption(t, optListContext, contextPayload("vol"), repContext, repAck)
	p.mustOption(t, optListContext, contextPayload("vol", "base:"), repContext, repAck)
	p.mustOption(t, optListContext, contextPayload("other"), repErrUnknown)
	p.mustOption(t, optSetContext, contextPayload("vol", "base:", "qemu:dirty-bitmap:x"), repAck)
	p.mustOption(t, optInfo, goPayload("other"), repErrUnknown)
	p.mustOption(t, optInfo, []byte{0, 0, 0, 9}, repErrInvalid)
	info := p.mustOption(t, optInfo, goPayload(""), repInfo, repInfo, repAck)
	if n := binary.BigEndian.Uint64(info[0][2:]); n != 1<<20 {
		t.Errorf("size %d", n)
	}
	p.mustOption(t, optAbort, nil, repAck)
	wantDropped(t, "after abort", p)
}

// TestHandshake_exportName is the oldest way in.
func TestHandshake_exportName(t *testing.T) {
	t.Parallel()
	s := memServer(t)
	p := raw(t, s)
	if err := p.greet(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.sock.Write(optionBytes(optExportName, []byte("vol"))); err != nil {
		t.Fatal(err)
	}
	var b [10]byte
	if _, err := io.ReadFull(p.sock, b[:]); err != nil || binary.BigEndian.Uint64(b[:]) != 1<<20 {
		t.Fatalf("%x, %v", b, err)
	}
	wantErr(t, "write", p.write(0, []byte{1}, 0), nil)
	for name, o := range map[string][]byte{
		"other name": optionBytes(optExportName, []byte("other")), "garbage": []byte(strings.Repeat("garbage!", 3)),
		"long": binary.BigEndian.AppendUint32(optionBytes(optGo, nil)[:12], maxOption+1),
	} {
		p := raw(t, s)
		if err := p.greet(); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = p.sock.Write(o) }() // the server may hang up in the middle
		wantDropped(t, name, p)
	}
}
