package rindex

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/holdfast-io/holdfast/leases"
)

func golden(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/rindex-512-1M-header+entries.bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden_decodesAndEncodes(t *testing.T) {
	t.Parallel()
	b := golden(t)
	var h Header
	if err := h.Decode(b); err != nil {
		t.Fatal(err)
	}
	want := Header{Magic: Magic, Version: version, Flags: 1, SectorSize: 512, MaxResources: 4096, Offset: 1 << 20, Space: leases.RawName("GOLD")}
	if h != want {
		t.Fatalf("%+v", h)
	}
	if err := h.Verify(leases.RawName("GOLD"), 1<<20); err != nil {
		t.Error(err)
	}
	if g, err := h.Geometry(); err != nil || g != leases.Geometry512 {
		t.Errorf("%+v, %v", g, err)
	}
	out := make([]byte, len(b))
	h.Encode(out)
	entries := h.Entries(b)
	if len(entries) != 8 {
		t.Fatalf("%d entries", len(entries))
	}
	for i := range entries {
		entries[i].Encode(out[512+64*i:])
		if taken := i < 3; entries[i].Free() == taken || taken && entries[i].Offset != uint64(3+i)<<20 {
			t.Errorf("entry %d: %+v", i, entries[i])
		}
	}
	if entries[1].Name.String() != "name1" {
		t.Errorf("%q", entries[1].Name)
	}
	if !bytes.Equal(out, b) {
		t.Error("encoding gives other bytes")
	}
}

func TestHeader_Verify_refusals(t *testing.T) {
	t.Parallel()
	good := Header{Magic: Magic, Version: version, Offset: 1 << 20, Space: leases.RawName("LS")}
	for name, c := range map[string]struct {
		spoil func(*Header)
		want  error
	}{
		"nothing":       {func(*Header) {}, nil},
		"minor version": {func(h *Header) { h.Version++ }, nil},
		"magic":         {func(h *Header) { h.Magic++ }, ErrMagic},
		"major version": {func(h *Header) { h.Version += 1 << 16 }, ErrVersion},
		"lockspace":     {func(h *Header) { h.Space = leases.RawName("L") }, ErrLockspace},
		"place":         {func(h *Header) { h.Offset = 0 }, ErrOffset},
	} {
		h := good
		c.spoil(&h)
		if err := h.Verify(leases.RawName("LS"), 1<<20); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzHeader: no panic, encoding gives the bytes back, and an accepted header never leads beyond the area.
func FuzzHeader(f *testing.F) {
	f.Add(golden(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Header
		if h.Decode(b) != nil {
			return
		}
		out := make([]byte, headerSize)
		h.Encode(out)
		if !bytes.Equal(out, b[:headerSize]) {
			t.Fatal("not the same bytes")
		}
		if _, err := h.Geometry(); err != nil {
			return
		}
		if l := h.Entries(b); len(l)*entrySize > len(b) {
			t.Fatalf("%d entries in %d bytes", len(l), len(b))
		}
	})
}

// FuzzEntry: no panic, and encoding gives the bytes back.
func FuzzEntry(f *testing.F) {
	f.Add(golden(f)[512:])
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Entry
		if e.Decode(b) != nil {
			return
		}
		out := make([]byte, entrySize)
		e.Encode(out)
		if !bytes.Equal(out, b[:entrySize]) {
			t.Fatal("not the same bytes")
		}
	})
}
