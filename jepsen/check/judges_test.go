package check

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

const testDomain = "3f1c21d6-9e55-4d3c-9d2a-0123456789ab"

// realLUN is a domain made by the real programs alone, small where it may be, with one qcow2 volume.
func realLUN(t *testing.T) Judges {
	t.Helper()
	testutil.NeedTool(t, "lvm", "pvck", "sanlock", "qemu-img", "losetup")
	j := Judges{LUN: testutil.SparseFile(t, "lun", 16<<30), Domain: testDomain, Folder: t.TempDir(), Hosts: 1}
	dev := testutil.LoopDevice(t, j.LUN, 512)
	lvm := func(verb string, args ...string) {
		t.Helper()
		config := fmt.Sprintf(`devices { filter=["a|^%[1]s$|","r|.*|"] use_devicesfile=0 hints="none" obtain_device_list_from_udev=0 } `+
			`global { activation=0 locking_type=1 event_activation=0 use_lvmpolld=0 } backup { backup=0 archive=0 }`, dev)
		testutil.Run(t, append([]string{"lvm", verb, "--config", config}, args...)...)
	}
	lvm("pvcreate", "-y", "--metadatasize", "128m", "--metadatacopies", "2", dev)
	lvm("vgcreate", "--physicalextentsize", "128m", testDomain, dev)
	for _, v := range append(slices.Clone(specialLVs), "vol") {
		size := map[string]string{"leases": "2g", "xleases": "1g", "master": "1g"}[v]
		if size == "" {
			size = "128m"
		}
		lvm("lvcreate", "-an", "-Zn", "-Wn", "-n", v, "-L", size, testDomain)
	}
	lvm("lvchange", "--addtag", "MD_1", "--addtag", "IU_x", testDomain+"/vol")
	j.device = dev
	lvs, err := j.lvs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	place := func(name string) int64 {
		v, err := find(lvs, name)
		if err != nil {
			t.Fatal(err)
		}
		return v.Offset
	}
	ids, leases := place("ids"), place("leases")
	testutil.Run(t, "sanlock", "direct", "init", "-s", fmt.Sprintf("%s:0:%s:%d", testDomain, j.LUN, ids))
	for _, l := range []struct {
		name string
		area int64
	}{{"SDM", 1}, {"vol", 101}} {
		testutil.Run(t, "sanlock", "direct", "init", "-r", fmt.Sprintf("%s:%s:%s:%d", testDomain, l.name, j.LUN, leases+l.area*leaseSize))
	}
	join(t, j.LUN, ids)
	img := filepath.Join(t.TempDir(), "img")
	testutil.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", img, "1G")
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	poke(t, j.LUN, place("vol"), b)
	if err := writeJSON(j.Folder, CheckFile, api.Check{Domain: testDomain, Clean: true}); err != nil {
		t.Fatal(err)
	}
	j.device = ""
	return j
}

// join writes a host's record, so that sanlock has something to show.
func join(t *testing.T, lun string, ids int64) {
	t.Helper()
	b := sector(magicHost, 1, 1, 0, 5, 0, "h1")
	copy(b[4:], []byte{4, 0, 3, 0, 0x10, 0, 0, 0, 0, 2, 0, 0})
	b[24] = 1
	copy(b[56:], testDomain)
	sum := leaderSum(b[:168])
	b[168], b[169], b[170], b[171] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	poke(t, lun, ids, b)
}

func poke(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// The judges accept what the real programs made, and each of them sees what is planted for it.
func TestJudges(t *testing.T) {
	t.Parallel()
	j := realLUN(t)
	r := Record{Folder: j.Folder}
	ask := func() { //nolint:thelper // it is the step of this test
		if err := j.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	expect(t, JudgesSay(r), "")
	l, err := LoadLayout(j.Folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Areas) != 3+len(specialLVs) || len(l.Texts) < 2*9 {
		t.Errorf("%d areas, %d texts: %+v", len(l.Areas), len(l.Texts), l)
	}
	for _, a := range []Area{{Name: areaLabel, Len: 4096}, {Name: areaMDA, Off: 4096, Len: 135262208}} {
		if !slices.Contains(l.Areas, a) {
			t.Errorf("no %+v among %+v", a, l.Areas)
		}
	}
	var lvs []LV
	if err := readJSON(j.Folder, LVsFile, &lvs); err != nil {
		t.Fatal(err)
	}
	wipe := func(name string, off int64) {
		t.Helper()
		v, err := find(lvs, name)
		if err != nil {
			t.Fatal(err)
		}
		poke(t, j.LUN, v.Offset+off, make([]byte, 4096))
	}
	wipe("vol", 64<<10)
	wipe("leases", 101*leaseSize)
	wipe("ids", 0)
	ask()
	for _, want := range []string{judgeImages + ": ", "volume vol has no lease", judgeIDs + ": "} {
		expect(t, JudgesSay(r), want)
	}
	wipe("leases", leaseSize)
	if err := writeJSON(j.Folder, CheckFile, api.Check{Domain: testDomain, Findings: []api.Finding{{Severity: "error", What: "leaked"}}}); err != nil {
		t.Fatal(err)
	}
	poke(t, j.LUN, 4096, make([]byte, 512)) // one of the two metadata areas
	ask()
	for _, want := range []string{judgeVGCK + ": ", "leaked", judgeLease + ": "} {
		expect(t, JudgesSay(r), want)
	}
}

// A judge that was not asked has not said yes.
func TestJudgesSay_missing(t *testing.T) {
	t.Parallel()
	r := Record{Folder: t.TempDir()}
	expect(t, JudgesSay(r), JudgesFile)
	if err := writeJSON(r.Folder, JudgesFile, []Sentence{{Judge: judgeVGCK, OK: true}}); err != nil {
		t.Fatal(err)
	}
	expect(t, JudgesSay(r), judgeLVs+" was not asked")
}

func TestParseLVs_pieces(t *testing.T) {
	t.Parallel()
	seg := `{"lv_name":"x","lv_tags":"MD_9","lv_size":"20","seg_start":"%d","seg_size":"10","seg_pe_ranges":"/dev/x:%d-%d","vg_extent_size":"10"}`
	report := `{"report":[{"seg":[` + strings.Join([]string{fmt.Sprintf(seg, 0, 3, 3), fmt.Sprintf(seg, 10, 7, 7)}, ",") + `]}]}`
	lvs, err := parseLVs([]byte(report), 100)
	if err != nil || len(lvs) != 1 || lvs[0].Offset != -1 || lvs[0].Slot() != 9 || len(lvs[0].Segments) != 2 || lvs[0].Segments[1] != (Area{Name: "x", Off: 170, Len: 10, At: 10}) {
		t.Errorf("%+v %v", lvs, err)
	}
}
