package leases

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// seed feeds every sector of the golden files to a fuzz target.
func seed(f *testing.F) {
	for _, b := range goldenBytes(f) {
		for len(b) > 0 {
			n := min(len(b), 512)
			f.Add(b[:n])
			b = b[n:]
		}
	}
}

// seedAreas feeds it the golden files whole.
func seedAreas(f *testing.F) {
	for _, b := range goldenBytes(f) {
		f.Add(b)
	}
}

func goldenBytes(f *testing.F) (all [][]byte) {
	files, err := filepath.Glob("testdata/golden/*.bin")
	if err != nil || len(files) == 0 {
		f.Fatal("no golden files: ", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// FuzzLeader: no panic, what is accepted has sizes that a reader may trust, and encoding gives the bytes back.
func FuzzLeader(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var l Leader
		if l.Decode(b) != nil {
			return
		}
		if err := l.verifyResource(b, l.Space, l.Resource, 0); err == nil {
			g, err := geometryOf(&l)
			if err != nil || g.sector(int(l.NumHosts)+2) > g.AlignSize {
				t.Fatalf("accepted %d hosts in %+v (%v)", l.NumHosts, g, err)
			}
		}
		_ = l.verifyDelta(b, l.Space)
		sum := l.Checksum
		out := make([]byte, leaderSize)
		l.Encode(out)
		if l.Checksum == sum && !bytes.Equal(out, b[:leaderSize]) {
			t.Fatalf("not the same bytes:\n%x\n%x", out, b[:leaderSize])
		}
	})
}

// FuzzDBlock: no panic, and values survive encoding.
func FuzzDBlock(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, e DBlock
		if d.Decode(b) != nil {
			return
		}
		out := make([]byte, 512)
		c := d
		c.Encode(out)
		if err := e.Decode(out); err != nil || !e.Valid() {
			t.Fatalf("%v, valid %v", err, e.Valid())
		}
		if d.SumOK && !bytes.Equal(out[:dblockSize], b[:dblockSize]) {
			t.Fatalf("not the same bytes")
		}
	})
}

// FuzzRequest: no panic, and what is accepted encodes to the same bytes.
func FuzzRequest(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Request
		if r.Decode(b) != nil {
			return
		}
		out := make([]byte, requestSize)
		r.Encode(out)
		if !bytes.Equal(out, b[:requestSize]) {
			t.Fatal("not the same bytes")
		}
	})
}

// FuzzLook: any bytes in another host's sector change nothing but that host's state.
func FuzzLook(f *testing.F) {
	seed(f)
	space, _ := MakeName("GOLD")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 512 {
			return
		}
		var o observed
		for i := range 4 {
			o.look(b, &space, 1<<40)
			b[152] ^= byte(i)
			_ = o.status(1, Fast, 1<<41)
		}
	})
}

// FuzzListen: any bytes in another host's record give no panic, no event for a bit that is not ours, and nothing twice.
func FuzzListen(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 512 {
			return
		}
		m := Bitmap(b[bitmapOffset : bitmapOffset+bitmapSize])
		for _, us := range []int{1, 3, 2000} {
			var h heard
			n, ok := h.listen(b, us, 5, 1, 1<<40, 1<<30)
			if ok != m.Has(us) || !ok && (n.alert || n.event.Event != 0) {
				t.Fatalf("host %d: %v, %+v", us, ok, n)
			}
			if n, ok := h.listen(b, us, 5, 1, 1<<40, 1<<30); ok {
				t.Fatalf("host %d heard it twice: %+v", us, n)
			}
		}
	})
}

// FuzzShared: whatever a host's block and the request record say, a look at the resource gives an answer or an error.
func FuzzShared(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 512 {
			return
		}
		var d DBlock
		if err := d.Decode(b); err != nil {
			t.Fatal(err)
		}
		var s survey
		s.count(2, &d, 5, 7)
		if len(s.sharers) == 1 != d.Shared() {
			t.Fatalf("%+v counts as %+v", d, s.sharers)
		}
		if !d.Valid() && (s.out != goOn || s.best.Bal != 0) {
			t.Fatalf("an invalid block had a say: %+v", s)
		}
		var r Request
		if err := r.Decode(b); err == nil && r.Pending(r.Lver) {
			t.Fatalf("a request for the version held is pending: %+v", r)
		}
	})
}

// FuzzBitmap: the hosts that are listed are those that are marked.
func FuzzBitmap(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := BitmapOf(b)
		if err != nil {
			return
		}
		var again Bitmap
		for _, h := range m.Hosts() {
			if !m.Has(h) {
				t.Fatalf("host %d is listed and not marked", h)
			}
			again.Set(h)
		}
		if again != m {
			t.Fatalf("%x becomes %x", m, again)
		}
	})
}
