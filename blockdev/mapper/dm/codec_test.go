package dm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// The offsets are those of the kernel's struct as x/sys/unix has it.
func TestHeader_layout(t *testing.T) {
	t.Parallel()
	var h unix.DmIoctl
	for name, c := range map[string][2]uintptr{
		"size": {unsafe.Sizeof(h), headerSize}, "data_size": {unsafe.Offsetof(h.Data_size), offDataSize},
		"data_start": {unsafe.Offsetof(h.Data_start), offDataStart}, "target_count": {unsafe.Offsetof(h.Target_count), offTargets},
		"open_count": {unsafe.Offsetof(h.Open_count), offOpen}, "flags": {unsafe.Offsetof(h.Flags), offFlags},
		"event_nr": {unsafe.Offsetof(h.Event_nr), offEvent}, "dev": {unsafe.Offsetof(h.Dev), offDev},
		"name": {unsafe.Offsetof(h.Name), offName}, "uuid": {unsafe.Offsetof(h.Uuid), offUUID}, "data": {unsafe.Offsetof(h.Data), offPadding},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, ours %d", name, c[0], c[1])
		}
	}
}

func TestNumber_forms(t *testing.T) {
	t.Parallel()
	for n, raw := range map[Number]uint64{{253, 0}: 0xfd00, {254, 16}: 0xfe10, {8, 300}: 0x10082c, {4095, 1<<20 - 1}: 0xffffffff} {
		if got := n.encode(); got != raw || decodeNumber(raw) != n || unix.Mkdev(n.Major, n.Minor) != raw {
			t.Errorf("%v is %#x, want %#x; back: %v", n, got, raw, decodeNumber(raw))
		}
		if back, err := parseNumber(n.String()); err != nil || back != n {
			t.Errorf("%v: %v, %v", n, back, err)
		}
	}
	for _, s := range []string{"", "1", "1:", ":1", "a:b", "1:2:3", "-1:2", "4096:0", "1:1048576", "1 :2"} {
		if n, err := parseNumber(s); err == nil {
			t.Errorf("%q is %v", s, n)
		}
	}
}

// TestName_escapes has the names that real lvm2 gave.
func TestName_escapes(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"vg-one", "a-b", "vg--one-a--b"}, {"vg-one", "ref", "vg--one-ref"}, {"v", "--", "v-----"},
		{"8adbc85e-e554-4ae0-b318-8a5465fe5fe1", "ids", "8adbc85e--e554--4ae0--b318--8a5465fe5fe1-ids"},
	} {
		if got := Name(c[0], c[1]); got != c[2] {
			t.Errorf("%s/%s is %s, want %s", c[0], c[1], got, c[2])
		}
	}
	vg := &lvm2.VG{ID: "uJlLpY-yTLz-Yaqc-sOgf-7W2T-wWcI-MQmp2X"}
	lv := &lvm2.LV{ID: "fMGuw1-jBgM-pWDC-yP0G-mEts-9Tan-DBPmcK"}
	if got := UUID(vg, lv); got != "LVM-uJlLpYyTLzYaqcsOgf7W2TwWcIMQmp2XfMGuw1jBgMpWDCyP0GmEts9TanDBPmcK" {
		t.Errorf("%s", got)
	}
}

// goldenTexts are texts that real lvm2 wrote.
func goldenTexts(t testing.TB) [][]byte {
	t.Helper()
	files, err := filepath.Glob("../../lvm2/testdata/golden/*/*.text.slot0.bin")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no golden texts")
	}
	var out [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func FuzzDecodeTable(f *testing.F) {
	a := Table{{0, 40960, Number{254, 0}, 2048, false}, {40960, 24576, Number{254, 16}, 2048, false}}
	f.Add(a.encode(), uint32(1))
	d := simDev{live: &simTable{t: a}}
	buf := make([]byte, headerSize+1024)
	h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	d.table(h, buf)
	f.Add(buf[headerSize:h.Data_size], uint32(2))
	f.Fuzz(func(t *testing.T, b []byte, count uint32) {
		got, err := decodeTable(b, count)
		if err != nil {
			return
		}
		if len(got) != int(count) || got.Bytes() < 0 {
			t.Fatalf("%d targets of %d: %v", len(got), count, got)
		}
		k := newSimKernel(map[Number]int64{})
		for _, x := range got {
			k.luns[x.Dev] = max(k.luns[x.Dev], x.Offset+x.Length)
		}
		if len(got) == 0 {
			return
		}
		again, err := k.parse(got.encode(), count)
		if err != nil || !again.Equal(got) {
			t.Fatalf("%v is loaded as %v: %v", got, again, err)
		}
	})
}

func FuzzDecodeList(f *testing.F) {
	for _, minor := range []uint32{27, 48} {
		k := newSimKernel(nil)
		k.minor = minor
		k.devs["LVM-x"] = &simDev{name: "vg-lv", uuid: "LVM-x", num: Number{253, 0}}
		k.devs["LVM-y"] = &simDev{name: "vg-lv2", uuid: "LVM-y", num: Number{253, 1}}
		buf := make([]byte, headerSize+1024)
		h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
		h.Flags = unix.DM_UUID_FLAG
		k.list(h, buf)
		f.Add(buf[headerSize:h.Data_size], minor >= 45)
	}
	f.Fuzz(func(t *testing.T, b []byte, withUUID bool) {
		all, err := decodeList(b, withUUID)
		if err != nil {
			return
		}
		for _, e := range all {
			if e.dev == (Number{}) || !bytes.Contains(b, []byte(e.name)) || !bytes.Contains(b, []byte(e.uuid)) {
				t.Fatalf("%+v is not in the bytes", e)
			}
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	h := header{name: "vg-lv", uuid: "LVM-x", flags: 3, targets: 2, dev: Number{253, 1}, event: 7}
	b, err := h.encode([]byte("payload"), 64)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, err := decodeHeader(b)
		if err != nil {
			return
		}
		again, err := h.encode(payload, 0)
		if err != nil {
			t.Fatal(err)
		}
		h2, payload2, err := decodeHeader(again)
		h2.version, h2.open = h.version, h.open // the kernel's to set
		if err != nil || h2 != h || !bytes.Equal(payload, payload2) {
			t.Fatalf("%+v is read back as %+v: %v", h, h2, err)
		}
	})
}

// FuzzMakeTable computes the tables of any volume group that can be read: each lies on its devices, in order, with the
// size that the metadata says, or is refused.
func FuzzMakeTable(f *testing.F) {
	for _, text := range goldenTexts(f) {
		f.Add(text, int64(1<<30))
	}
	f.Add([]byte("x {\n}\n"), int64(0))
	f.Fuzz(func(t *testing.T, text []byte, sectors int64) {
		vg, err := lvm2.ParseText(text)
		if err != nil {
			return
		}
		pvs := make([]pvDevice, len(vg.PVs))
		for i := range pvs {
			pvs[i] = pvDevice{path: "pv", number: Number{254, uint32(i)}, sectors: sectors & (1<<50 - 1)}
		}
		for _, lv := range vg.LVs {
			got, err := makeTable(vg, lv, pvs)
			if err != nil {
				if !errors.Is(err, ErrUnmappable) {
					t.Fatal(err)
				}
				continue
			}
			due := int64(0)
			for _, x := range got {
				if x.Start != due || x.Length <= 0 || x.Offset < 0 || x.Offset+x.Length > sectors&(1<<50-1) {
					t.Fatalf("%s: %v", lv.Name, got)
				}
				due += x.Length
			}
			if got.Bytes() != vg.Size(lv) {
				t.Fatalf("%s has %d bytes, the table %d", lv.Name, vg.Size(lv), got.Bytes())
			}
		}
	})
}
