package check

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/pattern"
)

const (
	guestA = "aaaaaaaa-0000-4000-8000-000000000001"
	guestB = "bbbbbbbb-0000-4000-8000-000000000002"

	testExtent = 1 << 20
)

// vgText is a volume group on one LUN, with volumes of one extent each, at the places given.
func vgText(seqno int, lvs map[string]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "vg {\n\tid = \"x\"\n\tseqno = %d\n\textent_size = %d\t# comment\n\n\tphysical_volumes {\n\n\t\tpv0 {\n\t\t\tpe_start = %d\n\t\t\tpe_count = 100\n\t\t}\n\t}\n\n\tlogical_volumes {\n",
		seqno, testExtent/sectorSize, atData/sectorSize)
	for name, at := range lvs {
		fmt.Fprintf(&b, "\n\t\t%s {\n\t\t\tsegment_count = 1\n\n\t\t\tsegment1 {\n\t\t\t\tstart_extent = 0\n\t\t\t\textent_count = 1\n\n\t\t\t\tstripes = [\n\t\t\t\t\t\"pv0\", %d\n\t\t\t\t]\n\t\t\t}\n\t\t}\n", name, at)
	}
	return b.String() + "\t}\n}\n\x00"
}

// text writes a text at a sector of the ring, and the header that names it.
func (s *script) text(text string, start int64) {
	b := []byte(text)
	if pad := len(b) % sectorSize; pad > 0 {
		b = append(b, make([]byte, sectorSize-pad)...)
	}
	e := s.put("a", atMDA+start, b)
	e.Data, e.Packed = nil, history.Pack(b)
	h := make([]byte, sectorSize)
	copy(h[4:], mdaMagic)
	binary.LittleEndian.PutUint64(h[40:], uint64(start))
	binary.LittleEndian.PutUint64(h[48:], uint64(len(text)))
	binary.LittleEndian.PutUint32(h[56:], lvmSum([]byte(text)))
	binary.LittleEndian.PutUint32(h, lvmSum(h[4:]))
	s.put("a", atMDA, h)
}

// take writes the leader record of a volume's lease; stamp 0 gives it back.
func (s *script) take(host, volume string, id, version, stamp uint64) *history.Entry {
	return s.put(host, atLeases+firstVolumeArea*leaseSize, sector(magicLease, id, 1, version, stamp, id, volume))
}

// guest writes a block of a volume that lies at an extent.
func (s *script) guest(host, volume string, extent int64) *history.Entry {
	b, err := pattern.Make(volume, 0, 1)
	if err != nil {
		panic(err)
	}
	return s.put(host, atData+extent*testExtent, b)
}

func TestDataWriters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(*script)
		want string
	}{
		"the holder": {func(*script) {}, ""},
		"renewed and on": {func(s *script) {
			s.now += 9 * time.Second
			s.renew("a", 1, 1)
			s.now += 9 * time.Second
			s.guest("a", guestA, 3)
		}, ""},
		"another host":           {func(s *script) { s.guest("b", guestA, 3) }, "version 1 of the volume's lease is a's"},
		"given back":             {func(s *script) { s.take("a", guestA, 1, 1, 0); s.guest("a", guestA, 3) }, "nobody holds"},
		"taken over":             {func(s *script) { s.take("b", guestA, 2, 2, 5); s.guest("a", guestA, 3) }, "version 2 of the volume's lease is b's"},
		"an earlier life's":      {func(s *script) { s.take("a", guestA, 1, 2, 5); s.guest("a", guestA, 3).Came -= 10 * time.Millisecond }, "it is of an earlier one"},
		"after the host's death": {func(s *script) { s.now += 11 * time.Second; s.guest("a", guestA, 3) }, "the host's own record was dead"},
		"a free extent":          {func(s *script) { s.guest("a", guestA, 4) }, "the extent is free"},
		"somebody's extent":      {func(s *script) { s.guest("a", guestA, 5) }, "the extent is volume " + guestB},
		"freed":                  {func(s *script) { s.text(vgText(2, map[string]int{guestB: 5}), 4096); s.guest("a", guestA, 3) }, "the extent is free"},
		"twice":                  {func(s *script) { s.text(vgText(2, map[string]int{guestA: 3, guestB: 3}), 4096) }, "extent 3 is of"},
		"not a guest's": {func(s *script) {
			s.put("b", atData+3*testExtent, make([]byte, sectorSize))
		}, "it is no guest's"},
		"no guest's, elsewhere": {func(s *script) { s.put("b", atData+9*testExtent, make([]byte, sectorSize)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := born()
			s.text(vgText(1, map[string]int{guestA: 3, guestB: 5}), sectorSize)
			s.take("a", guestA, 1, 1, 5)
			s.guest("a", guestA, 3)
			c.do(s)
			r := s.record(t, testLayout())
			r.Ops = []history.Op{{Kind: history.GuestAttach, Key: guestA}}
			expect(t, DataWriters(r), c.want)
		})
	}
}

// A text that goes over the end of the ring goes on behind the header.
func TestRing_wraps(t *testing.T) {
	t.Parallel()
	g := &ring{size: 4 * sectorSize, sectors: map[int64][]byte{}}
	a, b := strings.Repeat("a", sectorSize), strings.Repeat("b", sectorSize)
	g.put(3*sectorSize, []byte(a), sectorSize)
	g.put(sectorSize, []byte(b), sectorSize)
	if got, ok := g.text(3*sectorSize, textKey{2 * sectorSize, lvmSum([]byte(a + b))}); !ok || got != a+b {
		t.Errorf("%v, %d bytes", ok, len(got))
	}
	g.put(sectorSize, nil, sectorSize)
	if _, ok := g.text(3*sectorSize, textKey{2 * sectorSize, lvmSum([]byte(a + b))}); ok {
		t.Error("a text was read of which a part is not known")
	}
}
