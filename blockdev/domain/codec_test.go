package domain

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata", "vdsm", name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func goldenLines(t testing.TB, name string) []string {
	t.Helper()
	return strings.Split(strings.TrimSuffix(string(golden(t, name)), "\n"), "\n")
}

var goldenDomains = []string{
	"block_v3_master", "block_v3_regular", "block_v4_master", "block_v4_regular", "block_v5_master",
	"block_v5_master_spm7", "block_v5_regular", "block_v5_unicode",
}

func TestKeys_golden(t *testing.T) {
	t.Parallel()
	for _, name := range goldenDomains {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines, tags := goldenLines(t, name+".lines"), goldenLines(t, name+".tags")
			keys, err := keysOfTags(tags)
			if err != nil {
				t.Fatal(err)
			}
			if got := keys.lines(); !slices.Equal(got, lines) {
				t.Errorf("lines:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
			}
			got := append([]string{tagReady}, keys.tags()...)
			if !slices.Equal(got, tags) {
				t.Errorf("tags:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tags, "\n"))
			}
			id, err := parseIdentity(keys)
			if err != nil {
				t.Fatal(err)
			}
			if id.uuid != "8adbc85e-e554-4ae0-b318-8a5465fe5fe1" || id.class != "Data" {
				t.Errorf("identity %+v", id)
			}
		})
	}
}

func TestKeys_brokenSeal(t *testing.T) {
	t.Parallel()
	tags := goldenLines(t, "block_v5_master.tags")
	for i, tag := range tags {
		if strings.HasPrefix(tag, "MDT_ROLE=") {
			tags[i] = "MDT_ROLE=Regular"
		}
	}
	keys, err := keysOfTags(tags)
	if !errors.Is(err, ErrSealBroken) {
		t.Fatalf("got %v, want ErrSealBroken", err)
	}
	if keys["ROLE"] != "Regular" {
		t.Error("keys must be readable in spite of a broken seal")
	}
	unsealed := slices.DeleteFunc(tags, func(s string) bool { return strings.Contains(s, keyChecksum) })
	if _, err := keysOfTags(unsealed); err != nil {
		t.Errorf("keys without a seal: %v", err)
	}
}

func TestNewKeys_sameAsVDSM(t *testing.T) {
	t.Parallel()
	o := CreateOptions{UUID: "8adbc85e-e554-4ae0-b318-8a5465fe5fe1", Name: "block data #1", Type: "ISCSI"}
	pvs := []pvInfo{
		{pvGUID("/dev/mapper/36001405472912345a1b2c3d4e5f60718"), "Gk8qAb-1111-2222-3333-4444-5555-abcdef", 797},
		{pvGUID("/dev/mapper/360014054954321aabbccddeeff001122"), "Zz9yXw-aaaa-bbbb-cccc-dddd-eeee-fedcba", 797},
	}
	check := func(name string) {
		k := newKeys(o, "cQ3VpM-YJvB-Ll7n-2Yq4-S9o2-8bAB-a8gVJO")
		k.putPVKeys(pvs)
		if want := goldenLines(t, name); !slices.Equal(k.lines(), want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(k.lines(), "\n"), strings.Join(want, "\n"))
		}
	}
	check("block_v5_regular.lines")
	o.Master, o.PoolName, o.PoolUUID = true, "Default", "5d928855-b09b-47a7-b920-bd2d2eb5808c"
	check("block_v5_master.lines")
}

func TestTag_roundTrip(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a b,c", "&", "a&44&b", "&&", "é€😀", "x=1!:#/.-+_"} {
		if got := decodeTag(encodeTag(s)); got != s {
			t.Errorf("%q -> %q -> %q", s, encodeTag(s), got)
		}
	}
	for in, want := range map[string]string{
		"a&38&44&b": "a&44&b", "&1114112&": "&1114112&", "&55296&": "&55296&", "&12": "&12", "&x&": "&x&",
		"&&32&": "& ", "&99999999999999&": "&99999999999999&",
	} {
		if got := decodeTag(in); got != want {
			t.Errorf("decode %q = %q, want %q", in, got, want)
		}
	}
}

func TestSlot_golden(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"v3", "v4", "v5"} {
		m, err := decodeSlot(golden(t, "volume_md_"+v+"_snapshot.block"))
		if err != nil {
			t.Fatalf("%s: %v", v, err)
		}
		if m.capacity != 10737418240 || m.gen != 3 || m.format != "COW" || m.parent != "d6f2fcac-e98e-4330-9321-560146f40a84" {
			t.Errorf("%s: %+v", v, m)
		}
		if name, _ := decodeDescription(m.description); name != "vm1_Disk1" {
			t.Errorf("%s: name %q", v, name)
		}
	}
	want := golden(t, "volume_md_v5_snapshot.block")
	m, _ := decodeSlot(want)
	if got, err := m.encode(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("encode: %v\n%s\nwant\n%s", err, got, want)
	}
	utf8 := golden(t, "volume_md_v5_template_utf8.meta")
	m, err := decodeSlot(utf8)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.encode(); err != nil || !bytes.Equal(bytes.TrimRight(got, "\x00"), utf8) {
		t.Errorf("encode utf8: %v\n%s", err, got)
	}
}

func TestSlot_oddOnes(t *testing.T) {
	t.Parallel()
	if m, err := decodeSlot(golden(t, "volume_md_v4_upgrading_with_cap.meta")); err != nil || m.capacity != 10737418240 {
		t.Errorf("CAP must win over SIZE: %+v %v", m, err)
	}
	good := string(golden(t, "volume_md_v5_snapshot.meta"))
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"cleared": {string(golden(t, "volume_md_cleared_legacy.block")), ErrSlotCleared},
		"zero":    {string(make([]byte, 512)), ErrSlotEmpty},
		"torn":    {good[:120], ErrSlotCorrupt},
		"number":  {strings.Replace(good, "GEN=3", "GEN=x", 1), ErrSlotCorrupt},
		"utf8":    {strings.Replace(good, "vm1", "v\xff1", 1), ErrSlotCorrupt},
		"no cap":  {strings.Replace(good, "CAP=", "CAB=", 1), ErrSlotCorrupt},
		"no gen":  {strings.Replace(good, "GEN=3\n", "", 1), nil},
	} {
		if _, err := decodeSlot([]byte(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestSlot_tooLong(t *testing.T) {
	t.Parallel()
	m, _ := decodeSlot(golden(t, "volume_md_v5_snapshot.block"))
	m.description = strings.Repeat("é", 210)
	if _, err := m.encode(); !errors.Is(err, ErrInvalid) {
		t.Errorf("420 bytes of description: %v", err)
	}
	m.description = "a\nEOF"
	if _, err := m.encode(); !errors.Is(err, ErrInvalid) {
		t.Errorf("line break: %v", err)
	}
}

func TestLVTags(t *testing.T) {
	t.Parallel()
	const img = "6b055e16-337d-4cbe-9af9-d75f00f910c1"
	for name, c := range map[string]struct {
		lv   string
		tags []string
		want lvTags
	}{
		"normal":       {"v", volumeTags(7, "", img), lvTags{image: img, hasImage: true, hasParent: true, slot: 7, slotTags: 1}},
		"initializing": {"v", []string{tagInitializing}, lvTags{initializing: true}},
		"removing":     {"v", []string{"IU__remove_me_" + img}, lvTags{image: img, hasImage: true, removing: true}},
		"wiping":       {"v", []string{"IU__remove_me_ZERO_" + img}, lvTags{image: img, hasImage: true, removing: true, wipe: true}},
		"old remove":   {"_remove_me_v", nil, lvTags{removing: true}},
		"bad slot":     {"v", []string{"MD_x"}, lvTags{slotTags: 1, badSlot: "x"}},
		"foreign":      {"v", []string{"other"}, lvTags{}},
	} {
		if got := parseLVTags(c.lv, c.tags); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func FuzzTags(f *testing.F) {
	for _, name := range goldenDomains {
		f.Add(strings.Join(goldenLines(f, name+".tags"), "\n"))
	}
	f.Add("MDT_&38&44&\nMDT_=\nMDT_a")
	f.Fuzz(func(t *testing.T, text string) {
		keys, _ := keysOfTags(strings.Split(text, "\n"))
		_, _ = parseIdentity(keys)
		for k := range keys { // only lines without a line break can come from tags
			if strings.TrimSpace(k) != k || strings.Contains(k, "=") {
				return
			}
		}
		again, err := keysOfTags(keys.tags())
		if err != nil || !maps.Equal(again, keys) {
			if !validUTF8(keys) {
				return
			}
			t.Fatalf("%v: %v became %v", err, keys, again)
		}
	})
}

func validUTF8(k Keys) bool {
	for key, v := range k {
		if strings.ToValidUTF8(key+v, "") != key+v {
			return false
		}
	}
	return true
}

func FuzzSlot(f *testing.F) {
	for _, name := range []string{"volume_md_v3_snapshot.block", "volume_md_v5_snapshot.block", "volume_md_cleared_legacy.block"} {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := decodeSlot(p)
		if err != nil {
			return
		}
		_ = m.checkWords()
		decodeDescription(m.description)
		out, err := m.encode()
		if err != nil {
			return
		}
		again, err := decodeSlot(out)
		if err != nil {
			t.Fatalf("own encoding is refused: %v\n%s", err, out)
		}
		if *again != *m {
			t.Fatalf("%+v became %+v", m, again)
		}
	})
}

func FuzzLVTags(f *testing.F) {
	f.Add("v", "MD_1 IU_x PU_y")
	f.Add("_remove_me_", "MD_-1 IU__remove_me_ZERO_")
	f.Fuzz(func(t *testing.T, name, tags string) {
		if got := parseLVTags(name, strings.Fields(tags)); got.slot < 0 {
			t.Fatalf("slot %d", got.slot)
		}
	})
}
