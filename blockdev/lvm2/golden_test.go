package lvm2

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// goldenPV is an entry of layout.json.
type goldenPV struct {
	UUID    string     `json:"pv_uuid"`
	DevSize int64      `json:"dev_size_bytes"`
	Data    [][2]int64 `json:"data_areas"`
	Areas   [][2]int64 `json:"metadata_areas"`
	Ext     uint32     `json:"ext_version"`
	Flags   uint32     `json:"ext_flags"`
	MDAs    []struct {
		Start, Size int64
		Slots       []struct {
			Offset, Size int64
			Checksum     string
			Flags        uint32
		}
	}
}

func goldenSets(t testing.TB) []string {
	dirs, err := filepath.Glob("testdata/golden/*")
	if err != nil || len(dirs) != 14 {
		t.Fatalf("golden sets: %v %v", dirs, err)
	}
	return dirs
}

func readGolden(t testing.TB, dir, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func gunzip(t testing.TB, p []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// goldenDevices puts a golden set onto devices in memory.
func goldenDevices(t testing.TB, dir string, sectorSize int) ([]goldenPV, []*blockdev.Mem) {
	t.Helper()
	var pvs []goldenPV
	if err := json.Unmarshal(readGolden(t, dir, "layout.json"), &pvs); err != nil {
		t.Fatal(err)
	}
	var devs []*blockdev.Mem
	for i, pv := range pvs {
		m := blockdev.NewMem(pv.DevSize, sectorSize).Rename(fmt.Sprintf("mem%d", i))
		m.SetBytes(0, gunzip(t, readGolden(t, dir, fmt.Sprintf("pv%d.first1m.gz", i))))
		for k, a := range pv.Areas {
			if k == 0 {
				continue
			}
			h := mdaHead{area: byteRange{a[0], a[1]}}
			for j, s := range pv.MDAs[k].Slots {
				var sum uint32
				fmt.Sscanf(s.Checksum, "0x%x", &sum)
				h.slots[j] = slot{s.Offset, s.Size, sum, s.Flags}
			}
			m.SetBytes(a[0], h.encode())
			if ring, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("pv%d.mda1.ring256k.gz", i))); err == nil {
				m.SetBytes(a[0], gunzip(t, ring))
			}
		}
		devs = append(devs, m)
	}
	return pvs, devs
}

func asDevices(mems []*blockdev.Mem) []blockdev.Device {
	out := make([]blockdev.Device, len(mems))
	for i, m := range mems {
		out[i] = m
	}
	return out
}

func TestLabel_golden(t *testing.T) {
	t.Parallel()
	for _, dir := range goldenSets(t) {
		pvs, devs := goldenDevices(t, dir, 512)
		for i, pv := range pvs {
			s := devs[i].Bytes(512, 512)
			l, err := decodeLabel(s, 1)
			if err != nil {
				t.Fatalf("%s: %v", dir, err)
			}
			raw, _ := rawID(l.uuid)
			if raw != pv.UUID || l.deviceSize != pv.DevSize || l.extVersion != pv.Ext || l.extFlags != pv.Flags || len(l.mdas) != len(pv.Areas) {
				t.Errorf("%s pv%d: %+v, want %+v", dir, i, l, pv)
			}
			again, err := l.encode()
			if err != nil || !bytes.Equal(again, s) {
				t.Errorf("%s pv%d: label is not written as it was (%v)", dir, i, err)
			}
		}
	}
}

func TestMDAHeader_golden(t *testing.T) {
	t.Parallel()
	for _, dir := range goldenSets(t) {
		pvs, devs := goldenDevices(t, dir, 512)
		for i, pv := range pvs {
			for k, a := range pv.Areas {
				p := devs[i].Bytes(a[0], 512)
				h, err := decodeMDA(p, byteRange{a[0], a[1]})
				if err != nil {
					t.Fatalf("%s pv%d mda%d: %v", dir, i, k, err)
				}
				for j, s := range pv.MDAs[k].Slots {
					if h.slots[j].offset != s.Offset || h.slots[j].size != s.Size || fmt.Sprintf("0x%08x", h.slots[j].sum) != s.Checksum {
						t.Errorf("%s pv%d mda%d slot %d: %+v, want %+v", dir, i, k, j, h.slots[j], s)
					}
				}
				if !bytes.Equal(h.encode(), p) {
					t.Errorf("%s pv%d mda%d: header is not written as it was", dir, i, k)
				}
			}
		}
	}
}

// goldenTexts calls f for every committed or precommitted golden text.
func goldenTexts(t testing.TB, f func(name string, text []byte)) {
	files, err := filepath.Glob("testdata/golden/*/*.text.slot*.bin")
	if err != nil || len(files) < 12 {
		t.Fatalf("golden texts: %v %v", files, err)
	}
	for _, file := range files {
		p, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f(file, p)
	}
}

// rebuilt makes the volume's text from what was understood, not from the text kept.
func rebuilt(t testing.TB, text string) string {
	t.Helper()
	name, s, err := parseOne(text)
	if err != nil {
		t.Fatal(err)
	}
	return s.print(name)
}

func TestText_goldenRoundTrip(t *testing.T) {
	t.Parallel()
	goldenTexts(t, func(name string, text []byte) {
		vg, err := ParseText(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, lv := range vg.LVs {
			if got := rebuilt(t, lv.text); got != lv.text {
				t.Errorf("%s: volume %s is printed as\n%s\nwas\n%s", name, lv.Name, got, lv.text)
			}
			if !lv.Foreign && lv.Created != 0 && len(lv.Status) == 3 && !strings.Contains(lv.text, "allocation") &&
				!strings.Contains(lv.text, "read_ahead") && len(lv.Flags) == 0 {
				if got := lvText(lv.Name, lv.ID, lv.Tags, lv.Created, lv.Host, vg.PVs, lv.Segments); got != lv.text {
					t.Errorf("%s: volume %s is written as\n%s\nwas\n%s", name, lv.Name, got, lv.text)
				}
			}
		}
		end := bytes.LastIndex(text, []byte("\n}\n")) + 3
		if got := vg.appendGroup(nil); !bytes.Equal(got, text[:end]) {
			t.Errorf("%s: printed as\n%s", name, got)
		}
		if err := CheckStrict(text); err != nil {
			t.Errorf("%s: strict check: %v", name, err)
		}
	})
}

func TestText_backupFormSaysTheSame(t *testing.T) {
	t.Parallel()
	for _, dir := range goldenSets(t) {
		p, err := os.ReadFile(filepath.Join(dir, "vgcfgbackup.txt"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		a, err := ParseText(p)
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		b, err := ParseText(readGolden(t, dir, "pv0.mda0.text.slot0.bin"))
		if err != nil {
			t.Fatal(err)
		}
		if a.ID != b.ID || a.Seqno != b.Seqno || !slices.Equal(a.Tags, b.Tags) || !reflect.DeepEqual(a.free.pvs, b.free.pvs) {
			t.Errorf("%s: backup form differs: %+v\n%+v", dir, a, b)
		}
		sameVolumes(t, dir, a, b)
	}
}

func sameVolumes(t testing.TB, what string, a, b *VG) {
	t.Helper()
	if len(a.LVs) != len(b.LVs) {
		t.Fatalf("%s: %d and %d volumes", what, len(a.LVs), len(b.LVs))
	}
	for i := range a.LVs {
		x, y := *a.LVs[i], *b.LVs[i]
		x.text, y.text = "", ""
		if !reflect.DeepEqual(x, y) {
			t.Errorf("%s: volume %d: %+v\n%+v", what, i, x, y)
		}
	}
}

func TestOpen_golden(t *testing.T) {
	t.Parallel()
	for _, dir := range goldenSets(t) {
		for _, ss := range []int{512, 4096} {
			_, mems := goldenDevices(t, dir, ss)
			g, err := Open(testutil.Deadline(t), asDevices(mems))
			name := filepath.Base(dir)
			if name[:2] <= "02" {
				if !errors.Is(err, ErrNoVG) {
					t.Errorf("%s: %v, want ErrNoVG", name, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want, _ := ParseText(readGolden(t, dir, "pv0.mda0.text.slot0.bin"))
			if g.VG().Seqno != want.Seqno {
				t.Errorf("%s: seqno %d, want %d", name, g.VG().Seqno, want.Seqno)
			}
			sameVolumes(t, name, g.VG(), want)
			if stale := len(g.Warnings()) > 0; stale != (name[:2] == "11") {
				t.Errorf("%s: warnings %q", name, g.Warnings())
			}
		}
	}
}

func TestOpen_goldenForeignVolumes(t *testing.T) {
	t.Parallel()
	_, mems := goldenDevices(t, "testdata/golden/14-vg-complex-pvmove-thin-snap-raid", 512)
	g, err := Open(testutil.Deadline(t), asDevices(mems))
	if err != nil {
		t.Fatal(err)
	}
	for _, lv := range g.VG().LVs {
		if plain := lv.Name == "plain" || lv.Name == "lvol0_pmspare"; lv.Foreign == plain {
			t.Errorf("volume %s: foreign %v", lv.Name, lv.Foreign)
		}
	}
	before := map[string]string{}
	for _, lv := range g.VG().LVs {
		before[lv.Name] = lv.text
	}
	tx := g.Begin()
	for _, name := range []string{"origin", "snap", "tpool", "r1_rimage_0", "big", "pvmove0"} {
		if err := tx.RemoveLV(name); !errors.Is(err, ErrForeign) {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	if _, err := tx.CreateLV("new", 5<<20, LVOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExtendLV("plain", 30<<20); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(testutil.Deadline(t), tx, nil, "test"); err != nil {
		t.Fatal(err)
	}
	again, err := Open(testutil.Deadline(t), asDevices(mems))
	if err != nil {
		t.Fatal(err)
	}
	for _, lv := range again.VG().LVs {
		if was := before[lv.Name]; was != lv.text && lv.Name != "new" && lv.Name != "plain" {
			t.Errorf("volume %s was changed from\n%s\nto\n%s", lv.Name, was, lv.text)
		}
	}
	// Volumes that a pvmove, a raid or a mirror holds count as allocated.
	if s := again.VG().LV("new").Segments[0]; s.Areas[0].PV != 0 || s.Areas[0].StartPE < 84 {
		t.Errorf("new volume at %+v", s)
	}
}

// TestCreate_asVDSM makes golden sets 03, 04 and 05 by our own means and compares the bytes with those of lvm2.
func TestCreate_asVDSM(t *testing.T) {
	t.Parallel()
	const dir3, dir4, dir5 = "testdata/golden/03-vg-vdsm-empty", "testdata/golden/04-vg-vdsm-7-special-lvs", "testdata/golden/05-vg-vdsm-tags"
	ctx := testutil.Deadline(t)
	_, want := goldenDevices(t, dir3, 512)
	ref, err := Open(ctx, asDevices(want))
	if err != nil {
		t.Fatal(err)
	}
	dev := blockdev.NewMem(20<<30, 512)
	g, err := Create(ctx, CreateOptions{
		Name: ref.VG().Name, ID: ref.VG().ID, PVIDs: []string{ref.VG().PVs[0].ID}, Devices: []blockdev.Device{dev},
		DeviceHints: []string{"/dev/loop1"}, Tags: []string{"RHAT_storage_domain_UNREADY"}, Host: "vm", Now: time.Unix(1795252057, 0),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dev.Bytes(0, 4096), want[0].Bytes(0, 4096)) {
		t.Error("the label differs from lvm2's")
	}
	sameGroup(t, g, readGolden(t, dir3, "pv0.mda0.text.slot0.bin"))

	four, _ := ParseText(readGolden(t, dir4, "pv0.mda0.text.slot0.bin"))
	mib := map[string]int64{"metadata": 128, "ids": 8, "inbox": 16, "outbox": 16, "leases": 2048, "xleases": 1024, "master": 1024}
	for _, lv := range four.LVs {
		tx := g.Begin()
		tx.now, tx.host = lv.Created, lv.Host
		if _, err := tx.CreateLV(lv.Name, mib[lv.Name]<<20, LVOptions{ID: lv.ID}); err != nil {
			t.Fatal(err)
		}
		if err := g.Commit(ctx, tx, nil, "create"); err != nil {
			t.Fatal(err)
		}
	}
	sameGroup(t, g, readGolden(t, dir4, "pv0.mda0.text.slot0.bin"))

	tx := g.Begin()
	add := []string{"RHAT_storage_domain", "MDT_TYPE=ISCSI", "MDT_LOCKPOLICY=", "MDT__SHA_CKSUM=5&44&def"}
	if err := tx.ChangeVGTags(add, []string{"RHAT_storage_domain_UNREADY"}); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "tags"); err != nil {
		t.Fatal(err)
	}
	sameGroup(t, g, readGolden(t, dir5, "pv0.mda0.text.slot0.bin"))
}

// sameGroup compares the VG section on the disk with that of a golden text, byte for byte.
func sameGroup(t *testing.T, g *Group, golden []byte) {
	t.Helper()
	g, err := Open(testutil.Deadline(t), g.devs)
	if err != nil {
		t.Fatal(err)
	}
	want := golden[:bytes.LastIndex(golden, []byte("\n}\n"))+3]
	for _, m := range g.cur.Load().mdasInUse() {
		if !bytes.HasPrefix(m.text, want) {
			t.Errorf("%s has\n%s\nlvm2 wrote\n%s", m.name(), m.text, want)
		}
	}
}
