package qcow2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var sizes = []int64{
	512, 4096, 65536, 1 << 20, 512<<20 - 512, 512 << 20, 512<<20 + 512, 10 << 30, 32<<30 + 4096, 1 << 40, 4<<40 - 512, MaxSize,
}

// image writes p into a file of 128 MiB full of noise, as the extents of a deleted volume would be.
func image(t *testing.T, p []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	noise := make([]byte, 1<<20)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(noise)
	copy(noise, p)
	if err := os.WriteFile(name, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 128<<20); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCreate_judgedByQemu(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-img")
	for _, size := range sizes {
		for _, backing := range []string{"", "raw", "qcow2"} {
			t.Run(fmt.Sprintf("%d %s", size, backing), func(t *testing.T) {
				t.Parallel()
				o := CreateOptions{Size: size}
				if backing != "" {
					o.BackingName, o.BackingFormat = "6b055e16-337d-4cbe-9af9-d75f00f910c1", backing
				}
				p, err := Create(o)
				if err != nil {
					t.Fatal(err)
				}
				name := image(t, p)
				if backing != "" {
					makeBase(t, filepath.Join(filepath.Dir(name), o.BackingName), backing)
				}
				judge(t, name, o)
			})
		}
	}
}

func makeBase(t *testing.T, name, format string) {
	t.Helper()
	testutil.Run(t, "qemu-img", "create", "-q", "-f", format, name, "4096")
}

func judge(t *testing.T, name string, o CreateOptions) {
	t.Helper()
	out := testutil.Run(t, "qemu-img", "check", "-f", "qcow2", name)
	if !strings.Contains(out, "No errors were found") {
		t.Errorf("qemu-img check: %s", out)
	}
	var info struct {
		Size          int64  `json:"virtual-size"`
		Cluster       int    `json:"cluster-size"`
		Backing       string `json:"backing-filename"`
		BackingFormat string `json:"backing-filename-format"`
		Specific      struct {
			Data struct{ Compat string }
		} `json:"format-specific"`
	}
	if err := json.Unmarshal([]byte(testutil.Run(t, "qemu-img", "info", "--output=json", "-f", "qcow2", name)), &info); err != nil {
		t.Fatal(err)
	}
	if info.Size != o.Size || info.Cluster != cluster || info.Backing != o.BackingName || info.BackingFormat != o.BackingFormat || info.Specific.Data.Compat != "1.1" {
		t.Errorf("qemu-img info: %+v, want %+v", info, o)
	}
}

// TestCreate_usedByQemu writes through qemu at both ends of the image and checks that a resize finds its tables.
func TestCreate_usedByQemu(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-img", "qemu-io")
	for _, size := range []int64{1 << 20, 10 << 30, MaxSize} {
		p, err := Create(CreateOptions{Size: size})
		if err != nil {
			t.Fatal(err)
		}
		name := image(t, p)
		out := testutil.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", "-c", fmt.Sprintf("write -P 8 %d 512", size-512),
			"-c", "read -P 7 0 64k", "-c", fmt.Sprintf("read -P 8 %d 512", size-512), "-c", "read -P 0 128k 64k", name)
		if strings.Contains(out, "failed") {
			t.Errorf("qemu-io: %s", out)
		}
		testutil.Run(t, "qemu-img", "resize", "-q", "-f", "qcow2", name, "+1G")
		testutil.Run(t, "qemu-img", "check", "-q", "-f", "qcow2", name)
	}
}

func TestCreate_refused(t *testing.T) {
	t.Parallel()
	for _, o := range []CreateOptions{
		{Size: 0}, {Size: -512}, {Size: 513}, {Size: MaxSize + 512}, {Size: 512, BackingName: "x"},
		{Size: 512, BackingName: "x", BackingFormat: "vmdk"}, {Size: 512, BackingName: "a\x00b", BackingFormat: "raw"},
		{Size: 512, BackingName: strings.Repeat("x", 1024), BackingFormat: "raw"},
	} {
		if _, err := Create(o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestDecode_ownHeaders(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		o := CreateOptions{Size: size, BackingName: "base", BackingFormat: "raw"}
		p, err := Create(o)
		if err != nil {
			t.Fatal(err)
		}
		h, err := Decode(p)
		if err != nil {
			t.Fatal(err)
		}
		if h.Size != size || h.BackingName != "base" || h.BackingFormat != "raw" || h.ClusterSize() != cluster {
			t.Errorf("%+v", h)
		}
	}
}

// TestDecode_qemuImages reads what qemu-img made.
func TestDecode_qemuImages(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-img")
	dir := t.TempDir()
	for _, opts := range []string{"compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=2M", "refcount_bits=1", "lazy_refcounts=on", "compression_type=zstd", "preallocation=metadata"} {
		name := filepath.Join(dir, opts)
		testutil.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "some-base", "-F", "qcow2", "-o", strings.Replace(opts, "preallocation=metadata", "cluster_size=4k", 1), name, "1G")
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h, err := Decode(p)
		if err != nil {
			t.Errorf("%s: %v", opts, err)
			continue
		}
		if h.Size != 1<<30 || h.BackingName != "some-base" || h.BackingFormat != "qcow2" {
			t.Errorf("%s: %+v", opts, h)
		}
	}
}

func TestDecode_corrupt(t *testing.T) {
	t.Parallel()
	good, _ := Create(CreateOptions{Size: 1 << 30, BackingName: "base", BackingFormat: "raw"})
	for name, c := range map[string]struct {
		at    int
		bytes string
		want  error
	}{
		"magic":           {0, "QFX", ErrNotQcow2},
		"version":         {4, "\x00\x00\x00\x09", ErrUnsupported},
		"name beyond":     {8, "\x00\x00\x00\x00\x00\x01\x00\x00", ErrCorrupt},
		"name in header":  {8, "\x00\x00\x00\x00\x00\x00\x00\x10", ErrCorrupt},
		"name length":     {16, "\x7f\xff\xff\xff", ErrCorrupt},
		"cluster bits":    {20, "\x00\x00\x00\x40", ErrCorrupt},
		"size":            {24, "\xff", ErrCorrupt},
		"small L1":        {36, "\x00\x00\x00\x01", ErrCorrupt},
		"L1 misaligned":   {47, "\x01", ErrCorrupt},
		"refcount offset": {48, "\x80", ErrCorrupt},
		"refcount order":  {96, "\x00\x00\x00\x07", ErrCorrupt},
		"header length":   {100, "\x00\xff\x00\x00", ErrCorrupt},
		"extension":       {116, "\x7f\x00\x00\x00", ErrCorrupt},
	} {
		p := append([]byte(nil), good...)
		copy(p[c.at:], c.bytes)
		if _, err := Decode(p); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	for n := range 120 {
		if _, err := Decode(good[:n]); err == nil && n < headerLen {
			t.Errorf("%d bytes pass", n)
		}
	}
}

func mem(t *testing.T, name string, o *CreateOptions) blockdev.Device {
	t.Helper()
	d := blockdev.NewMem(1<<20, 512).Rename(name)
	if o != nil {
		p, err := Create(*o)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.WriteAt(testutil.Deadline(t), p, 0); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestReadChain(t *testing.T) {
	t.Parallel()
	devs := map[string]blockdev.Device{
		"top":  mem(t, "top", &CreateOptions{Size: 1 << 30, BackingName: "../img/mid", BackingFormat: "qcow2"}),
		"mid":  mem(t, "mid", &CreateOptions{Size: 1 << 30, BackingName: "base", BackingFormat: "raw"}),
		"base": mem(t, "base", nil),
		"loop": mem(t, "loop", &CreateOptions{Size: 512, BackingName: "pool", BackingFormat: "qcow2"}),
		"pool": mem(t, "pool", &CreateOptions{Size: 512, BackingName: "loop", BackingFormat: "qcow2"}),
		"lost": mem(t, "lost", &CreateOptions{Size: 512, BackingName: "gone", BackingFormat: "qcow2"}),
		"liar": mem(t, "liar", &CreateOptions{Size: 512, BackingName: "base", BackingFormat: "qcow2"}),
	}
	errGone := errors.New("gone")
	open := func(name string) (blockdev.Device, error) {
		if d := devs[name]; d != nil {
			return d, nil
		}
		return nil, errGone
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	chain, err := ReadChain(ctx, "top", 10, open)
	if err != nil || len(chain) != 3 || chain[2].Name != "base" || chain[2].Header != nil {
		t.Errorf("%v %v", chain, err)
	}
	for name, want := range map[string]error{"loop": ErrLoop, "lost": errGone, "liar": ErrNotQcow2} {
		if _, err := ReadChain(ctx, name, 10, open); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadChain(ctx, "top", 2, open); !errors.Is(err, ErrTooLong) {
		t.Errorf("limit: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, o := range []CreateOptions{{Size: 512}, {Size: MaxSize, BackingName: "base", BackingFormat: "raw"}} {
		p, _ := Create(o)
		f.Add(p[:512])
	}
	f.Add([]byte("QFI\xfb\x00\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := Decode(p)
		if err == nil && (h.ClusterSize() < 512 || len(h.BackingName) > maxBackingName) {
			t.Fatalf("%+v", h)
		}
	})
}
