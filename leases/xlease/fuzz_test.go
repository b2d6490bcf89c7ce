package xlease

import (
	"bytes"
	"testing"

	"github.com/holdfast-io/holdfast/leases"
)

// FuzzHead: no panic, and what is accepted is what encoding it gives, but for padding.
func FuzzHead(f *testing.F) {
	f.Add(golden(f, "xleases_metadata_updating.bin"))
	f.Add(golden(f, "xleases_index_formatted.bin")[:headSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := decodeHead(p)
		if err != nil {
			return
		}
		b := make([]byte, headSize)
		h.encode(b)
		if again, err := decodeHead(b); err != nil || again != h {
			t.Errorf("%+v becomes %+v, %v", h, again, err)
		}
	})
}

// FuzzRecord: no panic, and a record that can be read says the same after it was written again.
func FuzzRecord(f *testing.F) {
	f.Add(golden(f, "xleases_record_updating_legacy.bin"))
	f.Add(freeRecord)
	f.Add(golden(f, "xleases_index_3_records.bin")[headSize:][:recordSize])
	f.Fuzz(func(t *testing.T, p []byte) {
		b := make([]byte, recordSize)
		copy(b, p)
		id, _, state := decodeRecord(b)
		if state != recordUsed && id != "" || state == recordUsed && id == "" {
			t.Fatalf("%q in state %d", id, state)
		}
		if state == recordUnreadable {
			return
		}
		encodeRecord(b, id, 3<<20)
		if again, updating, st := decodeRecord(b); again != id || updating || st != state {
			t.Errorf("%q becomes %q, %t, %d", id, again, updating, st)
		}
	})
}

// FuzzIndex: whatever lies in the index, every lease that is listed first under its id is found, and one can be added
// and taken away again without a change to the others.
func FuzzIndex(f *testing.F) {
	f.Add(golden(f, "xleases_index_3_records.bin")[:4096])
	f.Add(golden(f, "xleases_index_3_records_2nd_removed.bin")[:4096])
	f.Fuzz(func(t *testing.T, p []byte) {
		raw := newIndex(mib, head{lockspace: testSpace, mtime: atGoldenTime()}).raw
		copy(raw[headSize:], p)
		x, err := decodeIndex(raw, mib)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range x.Records() {
			if got, err := x.Lookup(r.ID); err == nil && (got.N > r.N || got.Offset != resourceOffset(got.N, leases.Geometry512.AlignSize)) {
				t.Errorf("%+v is found as %+v", r, got)
			}
		}
		n := x.free(MaxRecords)
		if n < 0 || x.find(idOf(4242)) >= 0 {
			return
		}
		before := bytes.Clone(x.raw)
		x.put(n, idOf(4242))
		if got, err := x.Lookup(idOf(4242)); err != nil || got.N != n {
			t.Errorf("added as %d, found %+v, %v", n, got, err)
		}
		x.put(n, "")
		if !bytes.Equal(before, x.raw) {
			t.Error("adding and removing changed something else")
		}
	})
}
