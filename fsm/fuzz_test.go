package fsm

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

func FuzzDecode(f *testing.F) {
	for _, c := range samples() {
		data, err := Encode(c, "r")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{1, 1, 0xdb, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, id, err := Decode(data)
		if err == nil {
			again, err := Encode(c, id)
			if err != nil {
				t.Fatalf("what was decoded does not encode: %v", err)
			}
			if _, _, err := Decode(again); err != nil {
				t.Fatalf("what was encoded does not decode: %v", err)
			}
		}
		a, b := New(), New() // whatever the bytes, two replicas agree
		for _, m := range []*FSM{a, b} {
			m.Apply(1, data)
			m.Apply(2, data)
		}
		if a.View().TooOld == "" && !bytes.Equal(dump(t, a), dump(t, b)) {
			t.Fatal("two replicas differ")
		}
	})
}

func FuzzRestore(f *testing.F) {
	m := New()
	for _, e := range history(f, 3, 60) {
		m.Apply(e.Index, e.Data)
	}
	f.Add(dump(f, m))
	f.Add(dump(f, New()))
	f.Add([]byte(snapshotMagic + "\x01\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		restoreTwice(t, data)
		restoreTwice(t, sealed(data)) // past the checksum, which would stop nearly everything
	})
}

// sealed puts a right end record behind data, in place of the one that a good snapshot has.
func sealed(data []byte) []byte {
	const end = minRecordSz + 4
	if n := len(data) - end; n > 0 && data[n] == endRecord {
		data = data[:n]
	}
	out := append(bytes.Clone(data), endRecord, 0, 0, 0, 4)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(data, castagnoli))
}

func restoreTwice(t *testing.T, data []byte) {
	t.Helper()
	m := New()
	if err := m.Restore(bytes.NewReader(data)); err != nil {
		if m.View().Index != 0 || m.View().Initialised() {
			t.Fatal("a failed restore changed the state")
		}
		return
	}
	one := dump(t, m)
	again := New()
	if err := again.Restore(bytes.NewReader(one)); err != nil {
		t.Fatalf("what was restored cannot be restored again: %v", err)
	}
	if !bytes.Equal(one, dump(t, again)) {
		t.Fatal("restoring again gave another state")
	}
}

func TestRestore_everyTruncationAndEveryFlippedBit_isRefused(t *testing.T) {
	t.Parallel()
	m := New()
	for _, e := range history(t, 4, 12) {
		m.Apply(e.Index, e.Data)
	}
	good := dump(t, m)
	for i := range good { // short: the work grows with the square
		if err := New().Restore(bytes.NewReader(good[:i])); err == nil {
			t.Fatalf("cut at %d of %d was accepted", i, len(good))
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := New().Restore(bytes.NewReader(bad)); err == nil {
			t.Fatalf("flipped bit in byte %d was accepted", i)
		}
	}
}
