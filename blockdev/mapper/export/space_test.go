package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

const kib = 1 << 10

// stale is a device full of what somebody left there.
func stale(size int64, ss int) *blockdev.Mem {
	m := blockdev.NewMem(size, ss)
	m.SetBytes(0, bytes.Repeat([]byte{0xA5}, int(size)))
	return m
}

func seg(d blockdev.Device, off, n int64) blockdev.Segment {
	return blockdev.Segment{Dev: d, Off: off, Len: n}
}

func TestServer_writeWaitsForGrow(t *testing.T) {
	t.Parallel()
	for _, structured := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := stale(1<<20, 512)
			s := serveMem(t, testConfig(), m, 128*kib)
			p := connect(t, s, structured)
			data := bytes.Repeat([]byte{7}, 8*kib)
			wrote := make(chan error, 1)
			start := time.Now()
			go func() { wrote <- p.write(124*kib+100, data, 0) }()
			st, err := s.Watch(t.Context(), 1)
			if err != nil || st.Waiting != 1 || st.WantBytes != 132*kib+100 {
				t.Fatalf("%+v, %v", st, err)
			}
			synctest.Wait()
			time.Sleep(3 * time.Second) // of the bubble
			if err := s.Grow([]blockdev.Segment{seg(m, 0, 128*kib), seg(m, 256*kib, 64*kib)}); err != nil {
				t.Fatal(err)
			}
			if err := <-wrote; err != nil || time.Since(start) != 3*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			got, err := p.read(124*kib+99, len(data)+2)
			if err != nil || got[0] != 0xA5 || got[len(got)-1] != 0xA5 || !bytes.Equal(got[1:len(got)-1], data) {
				t.Errorf("not what was written: %v", err)
			}
			if st := s.Status(); st.Waiting != 0 || st.Waited != 1 || st.Denied != 0 || st.AllocatedBytes != 192*kib {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestServer_noSpace: the wait is bounded, other requests go on, and zeroes want space too.
func TestServer_noSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serveMem(t, testConfig(), stale(1<<20, 512), 128*kib)
		p, q := connect(t, s, true), connect(t, s, true)
		wrote := make(chan error, 1)
		start := time.Now()
		go func() { wrote <- p.write(128*kib, make([]byte, 512), 0) }()
		synctest.Wait()
		if err := q.write(0, make([]byte, 512), reqFUA); err != nil || time.Since(start) != 0 {
			t.Errorf("another client: %v after %v", err, time.Since(start))
		}
		wantErr(t, "write", <-wrote, unix.ENOSPC)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("ENOSPC after %v", d)
		}
		wantErr(t, "zeroes", p.command(cmdWriteZeroes, 0, 256*kib, 4*kib), unix.ENOSPC)
		wantErr(t, "trim", p.command(cmdTrim, 0, 256*kib, 4*kib), nil)
		if st := s.Status(); st.Denied != 2 || st.Waited != 2 || st.Waiting != 0 || st.HighBytes != 512 {
			t.Errorf("%+v", st)
		}
	})
}

func TestServer_readsBehindTheEnd(t *testing.T) {
	t.Parallel()
	for _, structured := range []bool{false, true} {
		s := serveMem(t, testConfig(), stale(1<<20, 4096), 128*kib)
		p := connect(t, s, structured)
		got, err := p.read(128*kib-3, 10)
		if want := []byte{0xA5, 0xA5, 0xA5, 0, 0, 0, 0, 0, 0, 0}; err != nil || !bytes.Equal(got, want) {
			t.Errorf("across the end: %x, %v", got, err)
		}
		got, err = p.read(1<<20-4096, 4096)
		if err != nil || !bytes.Equal(got, make([]byte, 4096)) {
			t.Errorf("behind the end: %v", err)
		}
		_, err = p.read(1<<20-1, 2)
		wantErr(t, "read behind the size", err, unix.EINVAL)
		wantErr(t, "write behind the size", p.write(1<<20-1, []byte{1, 2}, 0), unix.ENOSPC)
	}
}

func TestServer_blockStatus(t *testing.T) {
	t.Parallel()
	s := serveMem(t, testConfig(), blockdev.NewMem(1<<20, 512), 128*kib)
	p := connect(t, s, true)
	for _, c := range []struct {
		name   string
		flags  uint16
		off, n int64
		want   []uint32
	}{
		{"both", 0, 64 * kib, 128 * kib, []uint32{64 * kib, 0, 64 * kib, stateHole}},
		{"one", reqOne, 64 * kib, 128 * kib, []uint32{64 * kib, 0, 0, 0}},
		{"allocated", 0, 0, 5, []uint32{5, 0, 0, 0}},
		{"hole", reqOne, 128 * kib, 7, []uint32{7, stateHole, 0, 0}},
	} {
		b := make([]byte, 16)
		err := p.do(request{cmd: cmdBlockStatus, flags: c.flags, off: uint64(c.off), n: uint32(c.n)}, nil, b)
		for i, w := range c.want {
			if got := binary.BigEndian.Uint32(b[4*i:]); err != nil || got != w {
				t.Errorf("%s: %x, %v, want %v", c.name, b, err, c.want)
				break
			}
		}
	}
	wantErr(t, "without the context", connect(t, s, false).command(cmdBlockStatus, 0, 0, 512), unix.EINVAL)
}

// TestServer_low: the watcher is told once when space runs low, and again after an extension that does not help.
func TestServer_low(t *testing.T) {
	t.Parallel()
	m := blockdev.NewMem(1<<20, 512)
	s := serveMem(t, testConfig(), m, 128*kib)
	p := connect(t, s, true)
	st, err := s.Watch(t.Context(), 0)
	if err != nil || st.Low {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := p.write(60*kib, make([]byte, 4*kib), 0); err != nil {
		t.Fatal(err)
	}
	if now := s.Status(); now.Low || now.Seq != st.Seq {
		t.Errorf("exactly the threshold is free: %+v", now)
	}
	if err := errors.Join(p.write(64*kib, make([]byte, 1), 0), p.write(70*kib, make([]byte, 1), 0)); err != nil {
		t.Fatal(err)
	}
	st, err = s.Watch(t.Context(), st.Seq)
	if err != nil || !st.Low || st.Seq != 2 || st.HighBytes != 70*kib+1 || st.GrowRate == 0 || st.WriteRate < st.GrowRate {
		t.Errorf("%+v, %v", st, err)
	}
	for i, c := range []struct {
		size int64
		low  bool
	}{{130 * kib, true}, {256 * kib, false}, {1 << 20, false}} {
		if err := s.Grow([]blockdev.Segment{seg(m, 0, c.size)}); err != nil {
			t.Fatal(err)
		}
		if st, err = s.Watch(t.Context(), st.Seq); err != nil || st.Low != c.low || st.AllocatedBytes != c.size {
			t.Errorf("extension %d: %+v, %v", i, st, err)
		}
	}
	if err := p.write(1<<20-1, []byte{1}, 0); err != nil || s.Status().Low {
		t.Errorf("a full volume that cannot grow is not low: %v", err)
	}
}

func TestServer_growRefuses(t *testing.T) {
	t.Parallel()
	a, b := blockdev.NewMem(1<<20, 512), blockdev.NewMem(1<<20, 512)
	s, err := New(testConfig(), []blockdev.Segment{seg(a, 0, 64*kib), seg(b, 0, 64*kib)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Detach(t.Context())
	for _, c := range []struct {
		name string
		segs []blockdev.Segment
		want error
		size int64
	}{
		{"nothing", nil, ErrMapping, 128 * kib},
		{"no device", []blockdev.Segment{{}}, ErrMapping, 128 * kib},
		{"moved", []blockdev.Segment{seg(a, 512, 64*kib), seg(b, 0, 128*kib)}, ErrMapping, 128 * kib},
		{"other device", []blockdev.Segment{seg(a, 0, 64*kib), seg(a, 64*kib, 128*kib)}, ErrMapping, 128 * kib},
		{"beyond the device", []blockdev.Segment{seg(a, 0, 64*kib), seg(b, 0, 2<<20)}, ErrMapping, 128 * kib},
		{"old news", []blockdev.Segment{seg(a, 0, 64*kib), seg(b, 0, 32*kib)}, nil, 128 * kib},
		{"the same, cut", []blockdev.Segment{seg(a, 0, 32*kib), seg(a, 32*kib, 32*kib), seg(b, 0, 64*kib)}, nil, 128 * kib},
		{"longer", []blockdev.Segment{seg(a, 0, 64*kib), seg(b, 0, 64*kib), seg(b, 64*kib, 64*kib)}, nil, 192 * kib},
		{"longer than the size", []blockdev.Segment{seg(a, 0, 64*kib), seg(b, 0, 1<<20)}, nil, 1 << 20},
	} {
		wantErr(t, c.name, s.Grow(c.segs), c.want)
		if got := s.Status().AllocatedBytes; got != c.size {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.size)
		}
	}
}

func TestServer_guardLost(t *testing.T) {
	t.Parallel()
	g, r := &right{}, faulty.NewRecorder(blockdev.NewMem(1<<20, 512))
	c := testConfig()
	c.Guard, c.Discard = g, true
	s := serveMem(t, c, r, 128*kib)
	p := connect(t, s, true)
	if err := p.write(0, []byte("mine"), 0); err != nil {
		t.Fatal(err)
	}
	before := r.Stats()
	g.err.set(errors.New("another host has it"))
	wantErr(t, "write", p.write(512, make([]byte, 512), 0), unix.EIO)
	wantErr(t, "part of a sector", p.write(1, []byte{1}, 0), unix.EIO)
	wantErr(t, "zeroes", p.command(cmdWriteZeroes, 0, 0, 4096), unix.EIO)
	wantErr(t, "trim", p.command(cmdTrim, 0, 0, 4096), unix.EIO)
	got, err := p.read(0, 4)
	if err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
	if st := s.Status(); st.LeaseErrors != 4 || st.DeviceErrors != 0 || st.LastError == "" {
		t.Errorf("%+v; the device saw %+v, before %+v", st, r.Stats(), before)
	}
	if got := r.Replay(blockdev.NewMem(1<<20, 512), r.Len(), 0).Bytes(0, 8); !bytes.Equal(got, []byte("mine\x00\x00\x00\x00")) {
		t.Errorf("something was submitted: %q", got)
	}
}

// TestServer_hungDevice: a hung write is EIO after its deadline, and nothing else is written to its sectors before it is
// back; then all is as new.
func TestServer_hungDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := faulty.New(blockdev.NewMem(1<<20, 512))
		s := serveMem(t, testConfig(), f, 512*kib)
		p := connect(t, s, false)
		f.Inject(faulty.Fault{Ops: faulty.Write, Hang: true, Count: 1})
		start := time.Now()
		wantErr(t, "hung write", p.write(4096, bytes.Repeat([]byte{1}, 4096), 0), unix.EIO)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("EIO after %v", d)
		}
		wantErr(t, "write on top", p.write(8000, []byte{2}, 0), unix.EIO)
		wantErr(t, "zeroes on top", p.command(cmdWriteZeroes, 0, 0, 64*kib), unix.EIO)
		wantErr(t, "write elsewhere", p.write(8192, []byte{3}, 0), nil)
		if st := s.Status(); st.Pending != 1 || st.DeviceErrors != 3 {
			t.Errorf("%+v", st)
		}
		f.Release()
		wantErr(t, "write after the return", p.write(8000, []byte{2}, 0), nil)
		got, err := p.read(7999, 3)
		if err != nil || !bytes.Equal(got, []byte{1, 2, 1}) {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestServer_deviceErrors(t *testing.T) {
	t.Parallel()
	f := faulty.New(blockdev.NewMem(1<<20, 512))
	s := serveMem(t, testConfig(), f, 512*kib)
	for _, structured := range []bool{false, true} {
		p := connect(t, s, structured)
		f.Inject(faulty.Fault{Err: faulty.EIO})
		_, err := p.read(0, 512)
		wantErr(t, "read", err, unix.EIO)
		wantErr(t, "write", p.write(0, make([]byte, 512), 0), unix.EIO)
		wantErr(t, "flush", p.command(cmdFlush, 0, 0, 0), unix.EIO)
		f.Heal()
		wantErr(t, "write", p.write(0, make([]byte, 512), 0), nil)
		f.Inject(faulty.Fault{Ops: faulty.Flush, Err: faulty.EIO})
		wantErr(t, "write with FUA", p.write(0, make([]byte, 512), reqFUA), unix.EIO)
		f.Heal()
	}
}

// TestServer_failedFlush: each client hears once of a flush that failed, whoever asked for it.
func TestServer_failedFlush(t *testing.T) {
	t.Parallel()
	f := faulty.New(blockdev.NewMem(1<<20, 512))
	s := serveMem(t, testConfig(), f, 512*kib)
	p, q := connect(t, s, true), connect(t, s, false)
	f.Inject(faulty.Fault{Ops: faulty.Flush, Err: faulty.EIO, Count: 1})
	for _, c := range []struct {
		name string
		p    *peer
		want error
	}{{"the one that failed", p, unix.EIO}, {"again", p, nil}, {"the other client", q, unix.EIO}, {"again", q, nil},
		{"one that came back", connect(t, s, true), unix.EIO}, {"the first", p, nil}} {
		wantErr(t, c.name, c.p.command(cmdFlush, 0, 0, 0), c.want)
	}
}

func TestServer_readOnly(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.ReadOnly, c.Guard = true, nil
	s := serveMem(t, c, stale(1<<20, 512), 128*kib)
	p := connect(t, s, true)
	for name, err := range map[string]error{
		"write": p.write(0, make([]byte, 100), 0), "zeroes": p.command(cmdWriteZeroes, 0, 0, 512), "trim": p.command(cmdTrim, 0, 0, 512),
	} {
		wantErr(t, name, err, unix.EPERM)
	}
	wantErr(t, "flush", p.command(cmdFlush, 0, 0, 0), nil)
	if got, err := p.read(1, 1); err != nil || got[0] != 0xA5 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestServer_detach: what is with the device is answered and flushed; what waits for space fails at once.
func TestServer_detach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := faulty.New(blockdev.NewMem(1<<20, 512))
		flushes := f.Inject(faulty.Fault{Ops: faulty.Flush, Delay: time.Second})
		f.Inject(faulty.Fault{Ops: faulty.Write, Delay: 2 * time.Second})
		s := serveMem(t, testConfig(), f, 512*kib)
		p, q := connect(t, s, true), connect(t, s, true)
		slow, starved := make(chan error, 1), make(chan error, 1)
		go func() { slow <- p.write(0, make([]byte, 512), 0) }()
		go func() { starved <- q.write(600*kib, make([]byte, 512), 0) }()
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Detach(ctx); err != nil || time.Since(start) != 3*time.Second || flushes.Hits() != 1 {
			t.Errorf("%v after %v with %d flushes", err, time.Since(start), flushes.Hits())
		}
		wantErr(t, "slow write", <-slow, nil)
		wantErr(t, "write without space", <-starved, unix.ESHUTDOWN)
		wantErr(t, "later write", p.write(0, make([]byte, 512), 0), io.ErrClosedPipe)
		wantErr(t, "grow", s.Grow(nil), ErrDetached)
		_, err := s.Watch(t.Context(), s.Status().Seq)
		wantErr(t, "watch", err, ErrDetached)
		wantErr(t, "second detach", s.Detach(ctx), nil)
	})
}

// TestServer_detachDeadline: what does not come back is given up, with an error that says so.
func TestServer_detachDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := faulty.New(blockdev.NewMem(1<<20, 512))
		f.Inject(faulty.Fault{Hang: true})
		s := serveMem(t, testConfig(), f, 512*kib)
		p := connect(t, s, true)
		wrote := make(chan error, 1)
		go func() { wrote <- p.write(0, make([]byte, 512), 0) }()
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.Detach(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, blockdev.ErrOutcomeUnknown) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if <-wrote == nil {
			t.Error("a hung write was acknowledged")
		}
		f.Forget()
	})
}
