package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// tape is a connection whose client says what is on it and takes every reply.
type tape struct {
	io.Reader
	sent int
}

func (c *tape) Write(p []byte) (int, error)      { c.sent += len(p); return len(p), nil }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return nil }
func (c *tape) RemoteAddr() net.Addr             { return nil }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// FuzzHandshake: no panic, and no answer that is out of proportion.
func FuzzHandshake(f *testing.F) {
	hello := []byte{0, 0, 0, 3}
	for _, o := range [][]byte{
		optionBytes(optGo, goPayload("vol")), optionBytes(optInfo, goPayload("x")), optionBytes(optList, nil), optionBytes(optAbort, nil),
		optionBytes(optExportName, []byte("vol")), optionBytes(99, nil),
		append(optionBytes(optStructured, nil), optionBytes(optSetContext, contextPayload("vol", contextName, "base:"))...),
		append(optionBytes(optStructured, nil), optionBytes(optListContext, contextPayload("vol"))...),
	} {
		f.Add(append(bytes.Clone(hello), o...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &tape{Reader: bytes.NewReader(b)}
		h := handshake{r: c, w: c, offer: offer{name: "vol", size: 1 << 20, flags: flagHasFlags}}
		if err := h.run(); err == nil && h.allocation && !h.structured {
			t.Error("block status without chunks")
		}
		if c.sent > 1<<10+maxOptions*256 {
			t.Errorf("%d bytes for %d", c.sent, len(b))
		}
	})
}

// FuzzRequests: whatever a client says after the handshake, there is no panic, and nothing of it stays.
func FuzzRequests(f *testing.F) {
	for _, q := range []request{
		{cmd: cmdRead, n: 100, off: 7}, {cmd: cmdRead, flags: reqDF, n: 4096, off: 512*kib - 100}, {cmd: cmdFlush}, {cmd: cmdTrim, n: 9999, off: 1},
		{cmd: cmdWriteZeroes, flags: reqFUA | reqNoHole, off: 300, n: 5000}, {cmd: cmdBlockStatus, n: 1 << 20}, {cmd: cmdCache}, {cmd: cmdDisconnect},
		{cmd: cmdWrite, n: 1 << 31}, {cmd: 77, flags: 0xffff, off: 1 << 63, n: 1<<32 - 1},
	} {
		f.Add(requestBytes(q), true)
		f.Add(requestBytes(q), false)
	}
	f.Add(append(requestBytes(request{cmd: cmdWrite, off: 5, n: 6}), "sixsix"...), true)
	f.Fuzz(func(t *testing.T, b []byte, structured bool) {
		c := testConfig()
		c.Discard, c.Patience = true, 0
		s, err := New(c, []blockdev.Segment{seg(blockdev.NewMem(1<<20, 512), 0, 512*kib)})
		if err != nil {
			t.Fatal(err)
		}
		start := append([]byte{0, 0, 0, 3}, optionBytes(optStructured, nil)...)
		if !structured {
			start = start[:4]
		} else {
			start = append(start, optionBytes(optSetContext, contextPayload("vol", contextName))...)
		}
		start = append(start, optionBytes(optGo, goPayload("vol"))...)
		s.serve(&tape{Reader: bytes.NewReader(append(start, b...))})
		s.live.Wait()
		if s.mem.out != 0 || len(s.v.locks.held) != 0 || s.Status().Waiting != 0 {
			t.Errorf("%d bytes, %d locks, %d waiting are left", s.mem.out, len(s.v.locks.held), s.Status().Waiting)
		}
		if err := s.Detach(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// FuzzSpec: what is accepted can be said again and means the same.
func FuzzSpec(f *testing.F) {
	s := DefaultSpec()
	s.Name, s.Socket, s.Control, s.Segments = "vol", "/run/a", "/run/b", []SegmentSpec{{"/dev/a", 0, 512}}
	b, err := json.Marshal(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"name":"x","guard":{"a":[1]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSpec(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeSpec(bytes.NewReader(again)); err != nil && len(again) <= maxSpec {
			t.Errorf("%s: %v", again, err)
		}
		_ = s.config(nil).Validate() // it may be wrong, and must not panic
	})
}

// FuzzFrame: no panic, and no more memory than what arrives.
func FuzzFrame(f *testing.F) {
	for _, v := range []any{
		call{ID: 1, Method: methodGrow, Segments: []SegmentSpec{{"/dev/a", 1, 2}}}, call{ID: 2, Method: methodWatch, Seq: 9},
		answer{ID: 1, Error: toWire(ErrMapping), Status: &Status{Seq: 4}}, answer{Hello: &Hello{Version: 1, Spec: DefaultSpec()}},
	} {
		var b bytes.Buffer
		if err := writeFrame(&b, v); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte{255, 255, 255, 255, '{'})
	f.Fuzz(func(_ *testing.T, b []byte) {
		var c call
		if readFrame(bytes.NewReader(b), &c) == nil {
			_ = checkSegments(c.Segments) // it may be wrong, and must not panic
		}
		var a answer
		if readFrame(bytes.NewReader(b), &a) == nil {
			_ = a.Error.fromWire()
		}
		_, _ = ReadReady(bytes.NewReader(b)) // the same
	})
}

func TestWireError_keepsMeaning(t *testing.T) {
	t.Parallel()
	for _, c := range codes {
		err := toWire(errors.Join(errors.New("doing something"), c.err)).fromWire()
		if !errors.Is(err, c.err) || err.Error() == "" {
			t.Errorf("%s: %v", c.code, err)
		}
	}
	if toWire(nil).fromWire() != nil {
		t.Error("no error became one")
	}
}
