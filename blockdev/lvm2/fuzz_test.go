package lvm2

import (
	"bytes"
	"testing"
)

// FuzzParseText looks for panics, and for texts that are understood but not kept when they are printed and read again.
func FuzzParseText(f *testing.F) {
	goldenTexts(f, func(_ string, text []byte) { f.Add(text) })
	f.Fuzz(func(t *testing.T, text []byte) {
		vg, err := ParseText(text)
		if err != nil {
			return
		}
		out := vg.appendText(nil, header{description: "fuzz", host: "fuzz"})
		again, err := ParseText(out)
		if err != nil {
			t.Fatalf("printed text is not readable: %v\n%s", err, out)
		}
		if !bytes.Equal(groupText(vg), groupText(again)) {
			t.Fatalf("printing is not stable:\n%s\n%s", groupText(vg), groupText(again))
		}
	})
}

// FuzzCheckStrict looks for panics, and for texts that the strict check accepts and the parser does not: the two are
// separate, and the strict one must be the stricter.
func FuzzCheckStrict(f *testing.F) {
	goldenTexts(f, func(_ string, text []byte) { f.Add(text) })
	f.Add(twoVolumes(f))
	f.Fuzz(func(t *testing.T, text []byte) {
		if CheckStrict(text) != nil {
			return
		}
		if _, err := ParseText(text); err != nil {
			t.Fatalf("strict check accepts what the parser does not: %v", err)
		}
	})
}

// FuzzLabel looks for panics and for labels that are not written as they were read.
func FuzzLabel(f *testing.F) {
	_, devs := goldenDevices(f, "testdata/golden/09-vg-vdsm-2pv", 512)
	f.Add(devs[0].Bytes(512, 512))
	f.Add(devs[1].Bytes(512, 512))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < sector {
			p = append(p, make([]byte, sector-len(p))...)
		}
		sign(p[16:20], p[20:sector]) // so that the fuzzer gets past the checksum
		l, err := decodeLabel(p[:sector], 1)
		if err != nil {
			return
		}
		s, err := l.encode()
		if err != nil {
			return // area lists that fill the sector have no room for their end marks
		}
		again, err := decodeLabel(s, 1)
		if err != nil || again.uuid != l.uuid || len(again.mdas) != len(l.mdas) || again.used() != l.used() {
			t.Fatalf("%+v is read back as %+v: %v", l, again, err)
		}
	})
}

// FuzzMDAHeader looks for panics, and for slots that point outside the ring.
func FuzzMDAHeader(f *testing.F) {
	_, devs := goldenDevices(f, "testdata/golden/11-vg-vdsm-mda-mismatch", 512)
	area := byteRange{21340618752, 134217728}
	f.Add(devs[0].Bytes(area.off, 512))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < mdaHeader {
			p = append(p, make([]byte, mdaHeader-len(p))...)
		}
		sign(p[:4], p[4:mdaHeader])
		h, err := decodeMDA(p, area)
		if err != nil {
			return
		}
		for _, s := range h.slots {
			if s.empty() {
				continue
			}
			a, b := pieces(area.size, s.offset, s.size)
			if a.off < mdaHeader || a.size <= 0 || a.off+a.size > area.size || b.size < 0 || b.off+b.size > area.size {
				t.Fatalf("slot %+v is accepted", s)
			}
		}
	})
}

func sign(sum, data []byte) {
	c := checksum(data)
	for i := range 4 {
		sum[i] = byte(c >> (8 * i))
	}
}
