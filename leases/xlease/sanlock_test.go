package xlease

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// onFile makes a formatted volume in a file of its own.
func onFile(t *testing.T, geo leases.Geometry, n int) (*bench, string) {
	t.Helper()
	path := testutil.SparseFile(t, "xleases", int64(3+n)*geo.AlignSize)
	dev, err := blockdev.Open(testutil.Deadline(t), path, blockdev.Options{SectorSize: geo.SectorSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dev.Close() })
	b := &bench{t: t}
	b.on(dev, geo)
	if err := b.Format(testutil.Deadline(t)); err != nil {
		t.Fatal(err)
	}
	return b, path
}

// TestSanlock_judgesTheVolume: sanlock's dump finds exactly the leases that the index has, under their names, and takes
// one of them; and what we clear is byte for byte what sanlock writes for a resource with empty names.
func TestSanlock_judgesTheVolume(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	b, path := onFile(t, leases.Geometry512, 4)
	b.add(idOf(1), idOf(2), idOf(3))
	if _, err := b.Remove(testutil.Deadline(t), idOf(2)); err != nil {
		t.Fatal(err)
	}
	dump := testutil.Run(t, "sanlock", "direct", "dump", path+":3145728:4194304") // it stops where no lease lies
	for n, want := range []bool{true, false, true} {
		line := lineWith(dump, fmt.Sprintf("%08d", (3+n)*1<<20))
		if strings.Contains(line, idOf(n+1)) != want || want && !strings.Contains(line, testSpace) {
			t.Errorf("lease %d at %d, want %t: %q\n%s", n+1, (3+n)<<20, want, line, dump)
		}
	}
	out := testutil.Run(t, "sanlock", "direct", "read_leader", "-r", fmt.Sprintf("%s:%s:%s:%d", testSpace, idOf(3), path, 5*mib))
	if !strings.Contains(out, "num_hosts 250") || !strings.Contains(out, "lver 0") {
		t.Errorf("read_leader:\n%s", out)
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// TestSanlock_sameBytes compares whole resource areas, made and cleared, with those of sanlock.
func TestSanlock_sameBytes(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	for name, geo := range geometries() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, path := onFile(t, geo, 2)
			b.add(idOf(1), idOf(2))
			if _, err := b.Remove(testutil.Deadline(t), idOf(2)); err != nil {
				t.Fatal(err)
			}
			peer := testutil.SparseFile(t, "peer", 5*geo.AlignSize)
			for n, res := range []string{testSpace + ":" + idOf(1), ":"} {
				testutil.Run(t, "sanlock", "direct", "init", "-r", fmt.Sprintf("%s:%s:%d", res, peer, resourceOffset(n, geo.AlignSize)),
					"-n", "250", "-Z", fmt.Sprint(geo.SectorSize), "-A", fmt.Sprintf("%dM", geo.AlignSize/mib))
			}
			ours, theirs := content(t, path), content(t, peer)
			for n := range 2 {
				off := resourceOffset(n, geo.AlignSize)
				if !bytes.Equal(ours[off:off+geo.AlignSize], theirs[off:off+geo.AlignSize]) {
					t.Errorf("the area of record %d differs from sanlock's", n)
				}
			}
		})
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
