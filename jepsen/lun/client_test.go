package lun

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// TestLUN_client: the product's client does all that it can; both hosts see it, and the record has it.
func TestLUN_client(t *testing.T) {
	t.Parallel()
	r := newRig(t, 64<<20)
	ctx, a, b := testutil.Deadline(t), r.open("a"), r.open("b")
	if a.Size() != 64<<20 || a.SectorSize() != Sector {
		t.Errorf("size %d, sectors of %d", a.Size(), a.SectorSize())
	}
	got := make([]byte, 9<<20)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"write", func() error { return a.WriteAt(ctx, fill(1, 512), 512) }},
		{"long", func() error { return a.WriteAt(ctx, fill(2, 9<<20), 1<<20) }},
		{"zero", func() error { return b.WriteZeroes(ctx, 2<<20, 1<<20) }},
		{"trim", func() error { return b.Discard(ctx, 4<<20, 4096) }},
		{"flush", func() error { return b.Flush(ctx) }},
		{"read", func() error { return b.ReadAt(ctx, got, 1<<20) }},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	want := fill(2, 9<<20)
	copy(want[1<<20:], make([]byte, 1<<20))
	copy(want[3<<20:], make([]byte, 4096))
	if !bytes.Equal(got, want) || !bytes.Equal(r.contents()[1<<20:10<<20], want) {
		t.Error("other bytes than those written")
	}
	all := r.end()
	if len(all) != 7 { // the long write goes in three pieces
		t.Fatalf("%d entries: %s", len(all), brief(all...))
	}
	first := all[0]
	if first.Host != "a" || first.Kind != history.Write || first.Off != 512 || first.Len != 512 || first.Sum != checksum(fill(1, 512)) ||
		!bytes.Equal(first.Data, fill(1, 512)) || first.Came == 0 || first.Landed < first.Came || first.Told < first.Landed {
		t.Errorf("first entry %s", brief(first))
	}
	if long := all[1]; long.Data != nil || long.Sum != checksum(fill(2, 4<<20)) {
		t.Errorf("long entry of %d bytes, %d recorded", long.Len, len(long.Data))
	}
	for i, kind := range []history.Mutation{history.Zero, history.Trim, history.Flush} {
		if e := all[4+i]; e.Kind != kind || e.Host != "b" || e.Seq != 5+i {
			t.Errorf("entry %d: %s", 4+i, brief(e))
		}
	}
}

// TestLUN_qemu: a client that is not ours agrees.
func TestLUN_qemu(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-io", "qemu-img")
	r := newRig(t, 16<<20)
	uri := r.uri("a")
	testutil.Run(t, "qemu-io", "-f", "raw", "-c", "write -P 17 1M 3M", "-c", "write -f -P 18 8192 512", "-c", "write -z 2M 64k",
		"-c", "write -z -u 3M 64k", "-c", "discard 3584k 128k", "-c", "flush", "-c", "read -P 17 1M 1M", "-c", "read -P 0 2M 64k", uri)
	if out := testutil.Run(t, "qemu-io", "-f", "raw", "-c", "read -P 18 8192 512", r.uri("b")); strings.Contains(out, "failed") {
		t.Error(out)
	}
	if out := testutil.Run(t, "qemu-img", "info", "-f", "raw", uri); !strings.Contains(out, "16777216") {
		t.Error(out)
	}
	testutil.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uri, r.file)
	if got := r.contents(); got[8192] != 18 || got[1<<20] != 17 || got[2<<20] != 0 || got[3<<20] != 0 || got[3584<<10] != 0 || got[4<<20-1] != 17 {
		t.Error("the file has other bytes")
	}
	zero := 0
	for _, e := range r.end() {
		if e.Kind == history.Zero {
			zero++
		}
	}
	if zero != 2 {
		t.Errorf("%d zero entries", zero)
	}
}

// TestLUN_nbdkit: libnbd's client, behind nbdkit.
func TestLUN_nbdkit(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "nbdkit", "qemu-io")
	r := newRig(t, 1<<20)
	run := `qemu-io -f raw -c "write -P 7 4096 8192" -c flush "$uri"`
	if out, err := testutil.TryRun(t, "nbdkit", "-U", "-", "nbd", "uri="+r.uri("b"), "--run", run); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := r.contents(); got[4096] != 7 || got[12287] != 7 || got[12288] != 0 {
		t.Error("the file has other bytes")
	}
}

// talk is a client by hand.
type talk struct {
	t *testing.T
	net.Conn
}

func (r *rig) talk(t *testing.T, host string) talk {
	t.Helper()
	c, err := net.DialTimeout("tcp", r.addr[host], 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return talk{t, c}
}

func (c talk) get(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatalf("reading %d bytes: %v", n, err)
	}
	return b
}

func (c talk) put(parts ...any) {
	c.t.Helper()
	var b bytes.Buffer
	for _, p := range parts {
		if s, ok := p.(string); ok {
			b.WriteString(s)
		} else if err := binary.Write(&b, binary.BigEndian, p); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := c.Write(b.Bytes()); err != nil {
		c.t.Fatal(err)
	}
}

// hello is the greeting, both ways.
func (c talk) hello(flags uint32) {
	if b := c.get(18); string(b[:16]) != "NBDMAGICIHAVEOPT" {
		c.t.Fatalf("greeting %q", b)
	}
	c.put(flags)
}

func (c talk) option(opt uint32, data string) { c.put("IHAVEOPT", opt, uint32(len(data)), data) }

// answer reads one reply to an option.
func (c talk) answer() (kind uint32, data []byte) {
	b := c.get(20)
	return binary.BigEndian.Uint32(b[12:]), c.get(int(binary.BigEndian.Uint32(b[16:])))
}

func (c talk) request(cmd, flags uint16, handle uint64, off, n int, data string) {
	c.put(uint32(0x25609513), flags, cmd, handle, uint64(off), uint32(n), data)
}

// reply reads a reply without data.
func (c talk) reply() (handle uint64, errno uint32) {
	b := c.get(16)
	return binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[4:])
}

// over tells whether the server ended the connection.
func (c talk) over() bool {
	_, err := c.Read(make([]byte, 1))
	return err != nil && !isTimeout(err)
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // as it comes from Read
	return ok && ne.Timeout()
}

// TestHandshake_options: what the product's client never asks.
func TestHandshake_options(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	c := r.talk(t, "a")
	c.hello(3)
	for _, step := range []struct {
		name string
		opt  uint32
		data string
		want []uint32
	}{
		{"structured replies", 8, "", []uint32{1<<31 + 1}},
		{"TLS", 5, "", []uint32{1<<31 + 1}},
		{"unknown export", 6, "\x00\x00\x00\x01x\x00\x00", []uint32{1<<31 + 6}},
		{"cut name", 6, "\x00\x00\x00\x09x\x00\x00", []uint32{1<<31 + 3}},
		{"huge name", 6, "\xff\xff\xff\xffx\x00\x00", []uint32{1<<31 + 3}},
		{"too short", 7, "\x00", []uint32{1<<31 + 3}},
		{"info", 6, "\x00\x00\x00\x03lun\x00\x01\x00\x03", []uint32{3, 3, 1}},
		{"abort", 2, "", []uint32{1}},
	} {
		c.option(step.opt, step.data)
		for _, want := range step.want {
			if kind, _ := c.answer(); kind != want {
				t.Errorf("%s: reply %#x, want %#x", step.name, kind, want)
			}
		}
	}
	if !c.over() {
		t.Error("goes on after abort")
	}
}

// TestHandshake_exportName: the old way in, with and without the zeroes.
func TestHandshake_exportName(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	for flags, n := range map[uint32]int{1: 134, 3: 10} {
		c := r.talk(t, "a")
		c.hello(flags)
		c.option(1, "lun")
		if b := c.get(n); binary.BigEndian.Uint64(b) != 1<<20 || binary.BigEndian.Uint16(b[8:])&(1<<8) == 0 {
			t.Errorf("export %x", b)
		}
		c.request(cmdRead, 0, 7, 0, 512, "")
		if h, errno := c.reply(); h != 7 || errno != 0 {
			t.Errorf("read: %d, %d", h, errno)
		}
		c.get(512)
	}
	c := r.talk(t, "a")
	c.hello(3)
	c.option(1, "other")
	if !c.over() {
		t.Error("an export that is not there")
	}
}

// enter is a client by hand in transmission.
func (r *rig) enter(t *testing.T, host string) talk {
	t.Helper()
	c := r.talk(t, host)
	c.hello(3)
	c.option(1, "lun")
	c.get(10)
	return c
}

// TestRequest_refused: what no device does gets an error and leaves the file alone; what nobody understands ends the connection.
func TestRequest_refused(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	c := r.enter(t, "a")
	for i, q := range []struct {
		cmd    uint16
		off, n int
		want   uint32
	}{
		{cmdWrite, 1, 512, errInval}, {cmdWrite, 0, 100, errInval}, {cmdWrite, 0, 0, errInval}, {cmdWrite, 1 << 20, 512, errNoSpace},
		{cmdWriteZeroes, 1<<20 - 512, 1024, errNoSpace}, {cmdTrim, -512, 512, errInval}, {cmdRead, 1 << 20, 512, errInval},
	} {
		data := ""
		if q.cmd == cmdWrite {
			data = string(fill(9, q.n))
		}
		c.request(q.cmd, 0, uint64(i), q.off, q.n, data)
		if h, errno := c.reply(); h != uint64(i) || errno != q.want {
			t.Errorf("request %+v: handle %d, error %d", q, h, errno)
		}
	}
	if !bytes.Equal(r.contents(), make([]byte, 1<<20)) {
		t.Error("something landed")
	}
	for name, bad := range map[string]func(c talk){
		"magic":   func(c talk) { c.put(string(fill(1, requestSize))) },
		"command": func(c talk) { c.request(77, 0, 1, 0, 512, "") },
		"length":  func(c talk) { c.request(cmdWrite, 0, 1, 0, maxRequest+512, "") },
		"leaving": func(c talk) { c.request(cmdDisc, 0, 1, 0, 0, "") },
	} {
		c := r.enter(t, "b")
		if bad(c); !c.over() {
			t.Errorf("%s: the connection goes on", name)
		}
	}
	all := r.end()
	for _, e := range all {
		if e.Landed != 0 || !e.Failed || e.Told == 0 {
			t.Errorf("%s", brief(e))
		}
	}
	if len(all) != 6 {
		t.Errorf("%d entries", len(all))
	}
}

// FuzzHandshake: no client makes the server panic, allocate much, or go on for ever.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x09\x00\x00\x00\x03lun\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x01IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x06\x00\x00\x00\x06\xff\xff\xff\xff\x00\x00"))
	f.Fuzz(func(t *testing.T, client []byte) {
		if err := handshake(bytes.NewReader(client), bufio.NewWriter(io.Discard), 1<<20); err == nil && !bytes.Contains(client, []byte("IHAVEOPT")) {
			t.Error("in without an option")
		}
	})
}

// FuzzRequest: no bytes make a request that the server would carry out beyond the LUN, or make room for beyond its limit.
func FuzzRequest(f *testing.F) {
	request := func(cmd uint16, off uint64, n uint32) []byte {
		b := binary.BigEndian.AppendUint32(nil, 0x25609513)
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, 0), cmd)
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(append(b, "handle01"...), off), n)
	}
	f.Add(request(cmdWrite, 512, 512))
	f.Add(request(cmdRead, 1<<63, 1<<31))
	f.Add(request(cmdTrim, 1<<64-512, 1024))
	f.Fuzz(func(t *testing.T, client []byte) {
		const size = 1 << 30
		q, err := readRequest(bytes.NewReader(client))
		if err != nil {
			return
		}
		if weight(q) > maxHeld {
			t.Errorf("%+v would wait for ever", q)
		}
		if q.check(size) == 0 && q.cmd != cmdFlush && (q.off < 0 || q.n <= 0 || q.off+q.n > size) {
			t.Errorf("%+v is let through", q)
		}
	})
}
