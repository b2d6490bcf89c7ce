package export

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

const mib = 1 << 20

// onSocket runs s on a unix socket and returns its URI.
func onSocket(t testing.TB, s *Server) string {
	t.Helper()
	sock := filepath.Join(shortDir(t), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the end of the server: %v", err)
		}
	})
	return nbdURI(s.c.Name, sock)
}

func nbdURI(name, sock string) string {
	return "nbd+unix:///" + name + "?socket=" + url.QueryEscape(sock)
}

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "exp") //nolint:usetesting // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// thinFile is a server of max bytes on a file, of which the first allocated ones are mapped.
func thinFile(t testing.TB, allocated, max int64) (*Server, blockdev.Device) {
	t.Helper()
	d, err := blockdev.Open(testutil.Deadline(t), testutil.SparseFile(t, "lun", max+mib), blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	c := testConfig()
	c.MaxBytes, c.Patience, c.ThresholdBytes, c.Discard = max, 20*time.Second, 4*mib, true
	s, err := New(c, []blockdev.Segment{seg(d, mib, allocated)})
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// growing extends the volume whenever it says that it must, until the test ends.
func growing(t testing.TB, s *Server, d blockdev.Device, step int64) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for seq := uint64(0); ; {
			st, err := s.Watch(ctx, seq)
			if err != nil {
				return
			}
			if seq = st.Seq; st.Low || st.Waiting > 0 {
				n := min(st.AllocatedBytes+step, st.MaxBytes)
				if err := s.Grow([]blockdev.Segment{seg(d, mib, n)}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
}

// TestQemu_qcow2 is the life of a thin volume: an image made, filled through extensions, checked, and read back.
func TestQemu_qcow2(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-img", "qemu-io")
	s, d := thinFile(t, 8*mib, 256*mib)
	uri := onSocket(t, s)
	growing(t, s, d, 8*mib)
	testutil.Run(t, "qemu-img", "create", "-f", "qcow2", uri, "200M")
	args := []string{"qemu-io", "-f", "qcow2"}
	for i := range 24 {
		args = append(args, "-c", fmt.Sprintf("write -P %d %dM 3M", i+1, 7*i), "-c", fmt.Sprintf("write -P %d %d 700", i+101, 7*i*mib+5*mib+333))
	}
	testutil.Run(t, append(args, uri)...)
	verify := []string{"qemu-io", "-f", "qcow2", "-r"}
	for i := range 24 {
		verify = append(verify, "-c", fmt.Sprintf("read -P %d %dM 3M", i+1, 7*i), "-c", fmt.Sprintf("read -P %d %d 700", i+101, 7*i*mib+5*mib+333),
			"-c", fmt.Sprintf("read -P 0 %d 333", 7*i*mib+5*mib))
	}
	mustMatch(t, testutil.Run(t, append(verify, uri)...))
	testutil.Run(t, "qemu-img", "check", "-f", "qcow2", uri)
	st := s.Status()
	if st.AllocatedBytes < 72*mib || st.AllocatedBytes > 120*mib || st.Denied != 0 || st.DeviceErrors != 0 {
		t.Errorf("%+v", st)
	}
}

func mustMatch(t *testing.T, out string) {
	t.Helper()
	if strings.Contains(out, "verification failed") || strings.Contains(out, "rror") {
		t.Errorf("qemu-io: %s", out)
	}
}

// TestQemu_convert copies an image in and out.
func TestQemu_convert(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-img", "qemu-io")
	s, d := thinFile(t, 4*mib, 64*mib)
	uri := onSocket(t, s)
	growing(t, s, d, 4*mib)
	src := filepath.Join(t.TempDir(), "src.qcow2")
	testutil.Run(t, "qemu-img", "create", "-f", "qcow2", src, "48M")
	testutil.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 5 1M 9M", "-c", "write -P 6 30000001 100001", src)
	testutil.Run(t, "qemu-img", "create", "-f", "qcow2", uri, "48M")
	testutil.Run(t, "qemu-img", "convert", "-n", "-f", "qcow2", "-O", "qcow2", src, uri)
	testutil.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", src, uri)
	out := filepath.Join(t.TempDir(), "out.raw")
	testutil.Run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", uri, out)
	testutil.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", src, out)
}

// TestQemu_raw: what is stale on the devices must not be taken for zeroes of a raw copy.
func TestQemu_rawCopyOverStaleBytes(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-img", "qemu-io")
	s, d := thinFile(t, 4*mib, 32*mib)
	ctx := testutil.Deadline(t)
	for off := int64(0); off < 33*mib; off += mib {
		if err := d.WriteAt(ctx, []byte(strings.Repeat("stale", mib/5+1))[:mib], off); err != nil {
			t.Fatal(err)
		}
	}
	uri := onSocket(t, s)
	growing(t, s, d, 4*mib)
	src := testutil.SparseFile(t, "src.raw", 32*mib)
	testutil.Run(t, "qemu-io", "-f", "raw", "-c", "write -P 5 1M 9M", "-c", "write -P 6 20000001 100001", src)
	testutil.Run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", src, uri)
	testutil.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", src, uri)
}

func TestQemu_map(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-img", "qemu-nbd")
	s, _ := thinFile(t, 8*mib, 64*mib)
	uri := onSocket(t, s)
	var got []struct {
		Start, Length int64
		Data, Zero    bool
	}
	if err := json.Unmarshal([]byte(testutil.Run(t, "qemu-img", "map", "-f", "raw", "--output=json", uri)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Length != 8*mib || !got[0].Data || got[1].Start != 8*mib || got[1].Length != 56*mib || got[1].Zero || got[1].Data {
		t.Errorf("%+v", got)
	}
	sock := strings.SplitN(uri, "socket=", 2)[1]
	sock, err := url.QueryUnescape(sock)
	if err != nil {
		t.Fatal(err)
	}
	list := testutil.Run(t, "qemu-nbd", "--list", "--socket="+sock)
	for _, want := range []string{"export: 'vol'", "size:  67108864", "base:allocation", "multi", "fua", "trim", "zeroes"} {
		if !strings.Contains(list, want) {
			t.Errorf("qemu-nbd --list does not say %q:\n%s", want, list)
		}
	}
}

// TestQemu_noSpace: qemu sees ENOSPC as such, which is what pauses a guest.
func TestQemu_noSpace(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-io")
	s, d := thinFile(t, 4*mib, 32*mib)
	s.v.c.Patience = 50 * time.Millisecond
	uri := onSocket(t, s)
	out, err := testutil.TryRun(t, "qemu-io", "-f", "raw", "-c", "write 8M 64k", uri)
	if !strings.Contains(fmt.Sprint(out, err), "No space left on device") {
		t.Errorf("%s, %v", out, err)
	}
	if err := s.Grow([]blockdev.Segment{seg(d, mib, 16*mib)}); err != nil {
		t.Fatal(err)
	}
	mustMatch(t, testutil.Run(t, "qemu-io", "-f", "raw", "-c", "write -P 3 8M 64k", "-c", "read -P 3 8M 64k",
		"-c", "discard 8M 64k", "-c", "write -z 9000001 77777", "-c", "read -P 0 9000001 77777", "-c", "flush", uri))
}

// TestOwnClient: the product's own client takes the export as a device.
func TestOwnClient(t *testing.T) {
	t.Parallel()
	s, _ := thinFile(t, 8*mib, 64*mib)
	ctx := testutil.Deadline(t)
	d, err := blockdev.Open(ctx, onSocket(t, s), blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := []byte(strings.Repeat("0123456789abcdef", 6*mib/16))
	got := make([]byte, len(p))
	if err := d.WriteAt(ctx, p, 512); err != nil {
		t.Fatal(err)
	}
	if err := d.ReadAt(ctx, got, 512); err != nil || string(got) != string(p) || d.Size() != 64*mib {
		t.Errorf("%v, size %d", err, d.Size())
	}
}
