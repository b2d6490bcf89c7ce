package xlease

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// The sums are those of what VDSM writes.
func TestVolume_writesWhatVDSMWrites(t *testing.T) {
	t.Parallel()
	const formatted = "4469c9e267aad06b9cfab08d6a3cf6757665d71371a5ec075f298f2aa63107f7"
	three := map[string]string{
		"512-1M":  "c3d322afae1879ff9084b2a405905ae1bdb7193dbc840580d4bc5d68ecd28d39",
		"4096-1M": "c3d322afae1879ff9084b2a405905ae1bdb7193dbc840580d4bc5d68ecd28d39",
		"4096-2M": "4a41a9e0655757c30b29343a24a632aefd33def7b426b9474fef8cf29b9193a7",
		"4096-8M": "fa79bed96556e86b869cdec55528e9ddfec3ab0de31f085c67622d394e7f9f78",
	}
	for name, geo := range geometries() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newVolume(t, geo, 4)
			if got := sum(b.index()); got != formatted {
				t.Errorf("formatted index has sha256 %s", got)
			}
			b.add(idOf(1), idOf(2), idOf(3))
			if got := sum(b.index()); got != three[name] {
				t.Errorf("index with three records has sha256 %s", got)
			}
			rec, err := b.Lookup(testutil.Deadline(t), idOf(2))
			if want := 4 * geo.AlignSize; err != nil || rec.Offset != want || rec.N != 1 {
				t.Errorf("lookup: %+v, %v, want offset %d", rec, err, want)
			}
			if outside := b.mem.Bytes(0, geo.AlignSize); !bytes.Equal(outside, make([]byte, len(outside))) {
				t.Error("the area reserved for a lockspace was written")
			}
			if outside := b.mem.Bytes(2*geo.AlignSize, geo.AlignSize); !bytes.Equal(outside, make([]byte, len(outside))) {
				t.Error("the area reserved for a lease of the index was written")
			}
		})
	}
}

func TestVolume_goldenFiles(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 4)
	same := func(file string) {
		t.Helper()
		if !bytes.Equal(b.index(), golden(t, file)) {
			t.Errorf("the index differs from %s", file)
		}
	}
	same("xleases_index_formatted.bin")
	b.add(idOf(1), idOf(2), idOf(3))
	same("xleases_index_3_records.bin")
	if _, err := b.Remove(testutil.Deadline(t), idOf(2)); err != nil {
		t.Fatal(err)
	}
	same("xleases_index_3_records_2nd_removed.bin")
	if got := sum(b.index()); got != "80e8fa86b939f43dc5dc53881325faccb8c536a3de4c7f99d0726cc513b74755" {
		t.Errorf("index has sha256 %s", got)
	}
}

func TestHead_golden(t *testing.T) {
	t.Parallel()
	want := golden(t, "xleases_metadata_updating.bin")
	h, err := decodeHead(want)
	if err != nil || h.lockspace != testSpace || !h.updating {
		t.Fatalf("decoded %+v, %v", h, err)
	}
	got := make([]byte, headSize)
	h.encode(got)
	if !bytes.Equal(got, want) {
		t.Error("encoding gives other bytes")
	}
}

func TestRecord_golden(t *testing.T) {
	t.Parallel()
	b := golden(t, "xleases_record_updating_legacy.bin")
	if id, updating, state := decodeRecord(b); id == "" || !updating || state != recordUsed {
		t.Errorf("decoded %q, updating %t, state %d", id, updating, state)
	}
}
