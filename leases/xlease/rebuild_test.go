package xlease

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// garbage is a record that cannot be read.
var garbage = bytes.Repeat([]byte{0xff}, recordSize)

// rebuild runs Rebuild and checks that the index is whole afterwards.
func (b *bench) rebuild(force bool) (Report, error) {
	b.t.Helper()
	rep, err := b.Rebuild(testutil.Deadline(b.t), RebuildOptions{Hosts: b.hosts, Force: force})
	if err != nil {
		return rep, err
	}
	if problems, cerr := b.Check(testutil.Deadline(b.t)); cerr != nil || len(problems) != 0 {
		b.t.Errorf("after a rebuild: %+v, %v", problems, cerr)
	}
	return rep, err
}

// The table of xlease.md section 5, and what goes beyond it.
func TestVolume_Rebuild(t *testing.T) {
	t.Parallel()
	one, two := idOf(1), idOf(2)
	for name, c := range map[string]struct {
		damage   func(b *bench)
		record   string // id in record 1 afterwards
		resource string // in its place
		want     Report
	}{
		"free, none": {func(b *bench) {}, "", "", Report{}},
		"free, some": {func(b *bench) { b.setResource(1, testSpace, two) }, "", "", Report{Cleared: 1}},
		"used, same": {func(b *bench) { b.add(two) }, two, two, Report{}},
		"used, none": {func(b *bench) { b.add(two); b.mem.SetZero(resourceOffset(1, b.geo.AlignSize), b.geo.AlignSize) },
			two, two, Report{Written: []string{two}}},
		"used, nameless": {func(b *bench) {
			b.add(two)
			if err := b.clearResource(testutil.Deadline(b.t), 1); err != nil {
				b.t.Fatal(err)
			}
		}, two, two, Report{Written: []string{two}}},
		"used, other":                {func(b *bench) { b.add(two); b.setResource(1, testSpace, idOf(3)) }, two, two, Report{Written: []string{two}}},
		"unreadable, some":           {func(b *bench) { b.add(two); b.setRecord(1, garbage) }, two, two, Report{Recovered: []string{two}}},
		"zeroed, some":               {func(b *bench) { b.add(two); b.setRecord(1, make([]byte, recordSize)) }, two, two, Report{Recovered: []string{two}}},
		"unreadable, some elsewhere": {func(b *bench) { b.setRecord(1, garbage); b.setResource(1, testSpace, one) }, "", "", Report{Freed: 1, Cleared: 1}},
		"unreadable, none":           {func(b *bench) { b.setRecord(1, garbage) }, "", "", Report{Freed: 1}},

		"free, not exactly": {func(b *bench) {
			p := bytes.Clone(freeRecord)
			p[62] = 0
			b.setRecord(1, p)
		}, "", "", Report{}},
		"used, of another lockspace":       {func(b *bench) { b.add(two); b.setResource(1, "other", two) }, two, two, Report{Written: []string{two}}},
		"unreadable, of another lockspace": {func(b *bench) { b.setRecord(1, garbage); b.setResource(1, "other", two) }, "", "", Report{Freed: 1, Cleared: 1}},
		"unreadable, not a lease's name":   {func(b *bench) { b.setRecord(1, garbage); b.setResource(1, testSpace, "SDM") }, "", "", Report{Freed: 1, Cleared: 1}},
		"used twice": {func(b *bench) {
			p := make([]byte, recordSize)
			encodeRecord(p, one, 0)
			b.setRecord(1, p)
		}, "", "", Report{Freed: 1}},
		"beyond the end": {func(b *bench) {
			p := make([]byte, recordSize)
			encodeRecord(p, two, 0)
			b.setRecord(3, p)
		}, "", "", Report{Freed: 1}},
		"flag": {func(b *bench) { b.mem.SetBytes(b.indexOffset()+70, []byte{'u'}) }, "", "", Report{}},
		"other lockspace in the head": {func(b *bench) {
			h := make([]byte, headSize)
			head{lockspace: "another", mtime: atGoldenTime()}.encode(h)
			b.mem.SetBytes(b.indexOffset(), h)
		}, "", "", Report{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for geoName, geo := range map[string]leases.Geometry{"512-1M": leases.Geometry512, "4096-2M": {SectorSize: 4096, AlignSize: 2 * mib}} {
				b := newVolume(t, geo, 3)
				b.add(one)
				c.damage(b)
				got, err := b.rebuild(false)
				c.want.Leases = 1
				if c.record != "" {
					c.want.Leases = 2
				}
				if err != nil || !same(got, c.want) {
					t.Fatalf("%s: %+v, %v, want %+v", geoName, got, err, c.want)
				}
				x, err := b.Load(testutil.Deadline(t))
				if err != nil {
					t.Fatal(err)
				}
				if id, _, _ := decodeRecord(x.record(1)); id != c.record || b.resource(1) != c.resource {
					t.Errorf("%s: record %q, resource %q", geoName, id, b.resource(1))
				}
				if c.record == "" && !bytes.Equal(x.record(1), freeRecord) {
					t.Errorf("%s: the record is not free to the last byte", geoName)
				}
				if _, err := x.Lookup(one); err != nil || b.resource(0) != one {
					t.Errorf("%s: the lease beside it: %v, resource %q", geoName, err, b.resource(0))
				}
			}
		})
	}
}

func same(a, b Report) bool {
	return a.Leases == b.Leases && a.Freed == b.Freed && a.Cleared == b.Cleared && slices.Equal(a.Written, b.Written) && slices.Equal(a.Recovered, b.Recovered)
}

// A rebuilt index is what VDSM would have written.
func TestVolume_Rebuild_golden(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 4)
	b.add(idOf(1), idOf(2), idOf(3))
	b.setRecord(1, garbage)
	b.mem.SetBytes(b.indexOffset(), golden(t, "xleases_metadata_updating.bin"))
	if _, err := b.rebuild(false); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.index(), golden(t, "xleases_index_3_records.bin")) {
		t.Error("the index differs from VDSM's")
	}
}

func TestVolume_Rebuild_refusesWhatIsHeld(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 4)
	b.add(idOf(1), idOf(2), idOf(3))
	b.join(7, 4)
	b.hold(1, 7, 4)
	b.hold(2, 7, 4)
	b.setRecord(0, garbage)
	before := b.mem.Bytes(0, 7*mib)
	_, err := b.rebuild(false)
	var held *InUseError
	if !errors.As(err, &held) || held.ID != idOf(2) || held.Judgement.Owner != 7 || held.Others != 1 || !errors.Is(err, ErrInUse) {
		t.Fatalf("%v", err)
	}
	if !bytes.Equal(before, b.mem.Bytes(0, 7*mib)) {
		t.Error("something was written all the same")
	}
	if _, err := b.rebuild(true); err != nil {
		t.Fatalf("by force: %v", err)
	}
	if got := b.mem.Bytes(resourceOffset(1, mib), mib); !bytes.Equal(got, before[resourceOffset(1, mib):][:mib]) {
		t.Error("the resource of a held lease that fits was touched")
	}
	b.leave(7)
	if _, err := b.rebuild(false); err != nil {
		t.Errorf("after the holder left: %v", err)
	}
}

func TestVolume_Rebuild_refusesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 4)
	b.add(idOf(1), idOf(2))
	b.mem.SetBytes(resourceOffset(1, mib)+40, []byte{9})
	if _, err := b.rebuild(false); !errors.Is(err, ErrDamaged) {
		t.Fatalf("%v", err)
	}
	if rep, err := b.rebuild(true); err != nil || len(rep.Written) != 1 || b.resource(1) != idOf(2) {
		t.Fatalf("by force: %+v, %v", rep, err)
	}
}

// Where nothing of the first sectors is left, force makes the index from the resources.
func TestVolume_Rebuild_noHead(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 12)
	for n := range 12 {
		b.add(idOf(n + 1))
	}
	b.mem.SetZero(b.indexOffset(), 4096)
	if _, err := b.rebuild(false); !errors.Is(err, ErrIndex) {
		t.Fatalf("%v", err)
	}
	rep, err := b.rebuild(true)
	if err != nil || rep.Leases != 12 || len(rep.Recovered) != 12 {
		t.Fatalf("%+v, %v", rep, err)
	}
	for n := range 12 {
		if rec, err := b.Lookup(testutil.Deadline(t), idOf(n+1)); err != nil || rec.N != n {
			t.Errorf("lease %d: %+v, %v", n, rec, err)
		}
	}
}

// The check says what a rebuild will repair, in words that name the lease.
func TestVolume_Check(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage   func(b *bench)
		harmless bool
		want     string
	}{
		"flag":              {func(b *bench) { b.mem.SetBytes(b.indexOffset()+70, []byte{'u'}) }, false, "being rebuilt"},
		"head":              {func(b *bench) { b.mem.SetZero(b.indexOffset(), 512) }, false, "magic"},
		"unreadable record": {func(b *bench) { b.setRecord(2, garbage) }, false, "cannot be read"},
		"no resource":       {func(b *bench) { b.mem.SetZero(resourceOffset(1, mib), mib) }, false, idOf(2) + " has no resource"},
		"other resource":    {func(b *bench) { b.setResource(1, testSpace, idOf(9)) }, false, "has the resource of " + idOf(9)},
		"damaged resource":  {func(b *bench) { b.mem.SetBytes(resourceOffset(1, mib)+33, []byte{1}) }, false, "damaged"},
		"leftover":          {func(b *bench) { b.setResource(2, testSpace, idOf(8)) }, true, idOf(8) + " has no record"},
		"damaged leftover": {func(b *bench) {
			b.setResource(2, testSpace, idOf(8))
			b.mem.SetBytes(resourceOffset(2, mib)+33, []byte{1})
		}, true, "damaged"},
		"of a former domain": {func(b *bench) { b.setResource(2, "former", idOf(8)) }, true, ""},
		"twice": {func(b *bench) {
			p := make([]byte, recordSize)
			encodeRecord(p, idOf(1), 0)
			b.setRecord(2, p)
		}, false, "in record 0 already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newVolume(t, leases.Geometry512, 4)
			b.add(idOf(1), idOf(2))
			if p, err := b.Check(testutil.Deadline(t)); err != nil || len(p) != 0 {
				t.Fatalf("before: %v, %v", p, err)
			}
			c.damage(b)
			p, err := b.Check(testutil.Deadline(t))
			switch {
			case err != nil:
				t.Fatal(err)
			case c.want == "" && len(p) == 0:
			case len(p) != 1 || !strings.Contains(p[0].What, c.want) || p[0].Harmless != c.harmless || p[0].Repair == "":
				t.Errorf("found %+v", p)
			}
		})
	}
}
