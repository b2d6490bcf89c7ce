package pattern

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is read of a block is what was written, or what is wrong with it.
func TestSee(t *testing.T) {
	t.Parallel()
	a, b := uuid.NewString(), uuid.NewString()
	block := func(volume string, off int64, seq uint64) []byte {
		p, err := Make(volume, off, seq)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	whole, newer := block(a, 7*Block, 5), block(a, 7*Block, 6)
	torn := append(slices.Clone(newer[:Block/2]), whole[Block/2:]...)
	for name, c := range map[string]struct {
		b    []byte
		want []uint64
	}{"whole": {whole, []uint64{5}}, "torn": {torn, []uint64{6, 6, 6, 6, 5, 5, 5, 5}}, "zeroes": {make([]byte, Block), []uint64{0}}} {
		if s := See(a, 7, c.b); s.Wrong != "" || !slices.Equal(s.Seqs, c.want) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	flipped := slices.Clone(whole)
	flipped[300] ^= 1
	for name, p := range map[string][]byte{"other volume": block(b, 7*Block, 5), "other place": block(a, 8*Block, 5), "flipped": flipped,
		"nobody's": append([]byte("x"), make([]byte, Block-1)...)} {
		if s := See(a, 7, p); s.Wrong == "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if _, err := Make("x", 0, 1); err == nil {
		t.Error("a volume without an id")
	}
}
