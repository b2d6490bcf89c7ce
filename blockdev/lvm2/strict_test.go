package lvm2

import (
	"bytes"
	"errors"
	"testing"
)

// plantedText is a way to spoil a good text of two volumes, a and b, of two extents each.
type plantedText struct {
	name  string
	plant func([]byte) []byte
	lax   bool // vgck of lvm2 2.03.16 does not see it; the newer ones do, or nobody does
	read  bool // ParseText accepts it, as lvm2 does when reading
}

func swap(old, repl string) func([]byte) []byte {
	return func(p []byte) []byte { return bytes.Replace(p, []byte(old), []byte(repl), 1) }
}

var plantedTexts = []plantedText{
	{name: "overlap", plant: swap("\"pv0\", 2\n", "\"pv0\", 1\n")},
	{name: "beyond the end", plant: swap("\"pv0\", 2\n", "\"pv0\", 99999\n")},
	{name: "unknown pv", plant: swap("\"pv0\", 2\n", "\"pv7\", 2\n"), read: true},
	{name: "gap in segments", plant: swap("start_extent = 0", "start_extent = 1")},
	{name: "segment count", plant: swap("segment_count = 1", "segment_count = 2")},
	{name: "no extents", plant: swap("extent_count = 2", "extent_count = 0")},
	{name: "bad tag", plant: swap("\"T_a\"", "\"T a\""), read: true},
	{name: "duplicate volume", plant: swap("\nb {", "\na {")},
	{name: "bad volume name", plant: swap("\nb {", "\nb@ {"), read: true},
	{name: "no id", plant: swap("id = ", "xd = ")},
	{name: "unknown status", plant: swap("\"READ\", \"WRITE\", \"VISIBLE\"", "\"READ\", \"SHINY\", \"VISIBLE\""), read: true},
	{name: "time without host", plant: swap("creation_host = \"test\"\nsegment", "segment")},
	{name: "version", plant: swap("version = 1", "version = 2")},
	{name: "contents", plant: swap("Text Format Volume Group", "Text Format")},
	{name: "octal", plant: swap("extent_count = 2", "extent_count = 08")},
	{name: "brace with a blank", plant: swap("\n\n}\n# Gen", "\n\n} \n# Gen"), lax: true, read: true},
	{name: "brace in the description", plant: swap("description = \"d\"", "description = \"d\n}\n\""), lax: true},
	{name: "seqno behind", plant: func(p []byte) []byte {
		p = swap("seqno = 2\n", "")(p)
		return swap("\n}\n# Gen", "\nseqno = 2\n}\n# Gen")(p)
	}, lax: true, read: true},
	{name: "no final NUL", plant: func(p []byte) []byte { return p[:len(p)-1] }, lax: true, read: true},
	{name: "leading newline", plant: func(p []byte) []byte { return append([]byte("\n"), p...) }, read: true},
	{name: "second group", plant: swap("# Generated", "other {\n}\n# Generated"), lax: true},
	{name: "key twice", plant: swap("max_lv = 0\n", "max_lv = 0\nmax_lv = 0\n"), read: true},
}

// TestCheckStrict_plantedBugs spoils a good text in every way the rules forbid.
func TestCheckStrict_plantedBugs(t *testing.T) {
	t.Parallel()
	good := twoVolumes(t)
	if err := CheckStrict(good); err != nil {
		t.Fatal(err)
	}
	for _, bug := range plantedTexts {
		text := bug.plant(good)
		if bytes.Equal(text, good) {
			t.Fatalf("%s: nothing planted", bug.name)
		}
		err := CheckStrict(text)
		var c *CorruptError
		if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) {
			t.Errorf("%s: strict check says %v", bug.name, err)
		}
		if _, err := ParseText(text); (err == nil) != bug.read {
			t.Errorf("%s: parser says %v", bug.name, err)
		}
	}
}

// twoVolumes is the text of a group with volumes a and b.
func twoVolumes(t testing.TB) []byte {
	t.Helper()
	ctx := testContext(t)
	g := smallGroup(t, ctx, newMem())
	tx := g.Begin()
	for _, name := range []string{"a", "b"} {
		if _, err := tx.CreateLV(name, 2*smallExtent, LVOptions{Tags: []string{"T_" + name}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Commit(ctx, tx, nil, "two"); err != nil {
		t.Fatal(err)
	}
	return g.VG().appendText(nil, header{description: "d", host: "h"})
}
