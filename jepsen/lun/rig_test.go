package lun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// rig is a LUN in a folder with its record.
type rig struct {
	*LUN
	t      testing.TB
	folder string
	file   string
	log    *history.Log[history.Entry]
	addr   map[string]string
	ended  bool
}

// newRig serves a LUN of size bytes to the hosts a and b.
func newRig(t testing.TB, size int64) *rig {
	t.Helper()
	r := &rig{t: t, folder: t.TempDir(), file: testutil.MemoryFile(t, "lun.img", size), addr: map[string]string{}}
	log, err := history.NewLog[history.Entry](r.folder, history.WritesFile)
	if err != nil {
		t.Fatal(err)
	}
	r.log = log
	begun := time.Now()
	if r.LUN, err = New(r.file, size, log, func() time.Duration { return time.Since(begun) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	r.Seed(1)
	for _, host := range []string{"a", "b"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
		if err != nil {
			t.Fatal(err)
		}
		r.addr[host] = ln.Addr().String()
		r.Attach(host, ln)
	}
	return r
}

// stop closes all.
func (r *rig) stop() {
	if r.ended {
		return
	}
	r.ended = true
	if err := errors.Join(r.Close(), r.log.Close()); err != nil {
		r.t.Error(err)
	}
}

// end closes all and gives the record.
func (r *rig) end() []history.Entry {
	r.t.Helper()
	r.stop()
	all, err := history.Load[history.Entry](r.folder, history.WritesFile)
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

func (r *rig) uri(host string) string { return "nbd://" + r.addr[host] + "/" + ExportName }

// open is the product's client on a host.
func (r *rig) open(host string) blockdev.Device {
	r.t.Helper()
	d, err := blockdev.Open(testutil.Deadline(r.t), r.uri(host), blockdev.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { d.Close() })
	return d
}

// contents is the file.
func (r *rig) contents() []byte {
	r.t.Helper()
	b, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// holds waits until so many requests of a host hang.
func (r *rig) holds(host string, n int) {
	r.t.Helper()
	testutil.Retry(r.t, 20*time.Second, func() error {
		if got := r.Path(host).Held(); got != n {
			return fmt.Errorf("%d requests hang, want %d", got, n)
		}
		return nil
	})
}

// soon is a deadline that a test waits for.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// fill is n bytes of b.
func fill(b byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = b
	}
	return p
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int64{"small": 0, "odd": 1000, "large": MaxSize + Sector} {
		if _, err := New(filepath.Join(t.TempDir(), "x"), size, nil, nil); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	other := testutil.SparseFile(t, "lun.img", 4096)
	if _, err := New(other, 8192, nil, nil); err == nil {
		t.Error("a file of another size was taken")
	}
	l, err := New(filepath.Join(t.TempDir(), "new"), MaxSize, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Path("nobody") != nil {
		t.Error("a path that nobody attached")
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
}

// brief leaves the bytes out.
func brief(all ...history.Entry) string {
	var b strings.Builder
	for _, e := range all {
		e.Data = nil
		fmt.Fprintf(&b, "\n%+v", e)
	}
	return b.String()
}
