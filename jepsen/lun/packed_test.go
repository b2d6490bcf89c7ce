package lun

import (
	"bytes"
	"testing"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// The bytes of longer writes are kept where a volume group has its texts, and nowhere else.
func TestRecord_packed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 256<<20)
	ctx, a := testutil.Deadline(t), r.open("a")
	text := bytes.Repeat([]byte("segment1 {\nstart_extent = 0\n}\n\n\n"), 2048)
	for _, off := range []int64{1 << 20, packedBelow} {
		if err := a.WriteAt(ctx, text, off); err != nil {
			t.Fatal(err)
		}
	}
	all := r.end()
	if len(all) != 2 {
		t.Fatalf("%d entries: %s", len(all), brief(all...))
	}
	if b, err := all[0].Bytes(); err != nil || !bytes.Equal(b, text) || len(all[0].Packed) > len(text)/10 {
		t.Errorf("%d bytes, packed %d, %v", len(b), len(all[0].Packed), err)
	}
	if b, err := all[1].Bytes(); err != nil || b != nil {
		t.Errorf("a guest's bytes were kept: %d, %v", len(b), err)
	}
	all[0].Packed = all[0].Packed[:10]
	if _, err := all[0].Bytes(); err == nil {
		t.Error("half of what was kept was taken for all")
	}
}
