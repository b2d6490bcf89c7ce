package domain

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// fileLUN is a LUN in a file.
func fileLUN(t *testing.T, name string, size int64) (string, blockdev.Device) {
	t.Helper()
	file := testutil.SparseFile(t, name, size)
	lun, err := blockdev.Open(deadline(t), file, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lun.Close() })
	return file, lun
}

// TestJudges_addedLUN shows a domain that grew, and a chain made on it, to lvm2 and qemu-img; then lvm2 adds a LUN, and we use it.
func TestJudges_addedLUN(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "lvm", "qemu-img", "e2fsck")
	one, first := fileLUN(t, "one", 12*gib)
	two, second := fileLUN(t, "two", 12*gib)
	three, third := fileLUN(t, "three", 12*gib)
	newDomain(t, first)
	d := openDomain(t, first)
	w := writer(t, d)
	if _, err := w.AddLUN(deadline(t), LUN{Device: second}); err != nil {
		t.Fatal(err)
	}
	create(t, w, qcow(1))
	for n := 2; n <= 4; n++ {
		if _, err := w.Snapshot(deadline(t), on(n-1, n)); err != nil {
			t.Fatal(err)
		}
	}
	fillUp(t, w, 10)
	_ = w.Close()
	j := newJudges(t, one, two, three)
	if out := j.lvm("vgck", testDomain); out != "" {
		t.Errorf("vgck: %s", out)
	}
	tags := strings.Split(j.lvm("vgs", "--noheadings", "-o", "vg_tags", testDomain), ",")
	if want := slices.Sorted(slices.Values(append([]string{tagReady}, d.Keys().tags()...))); !slices.Equal(slices.Sorted(slices.Values(tags)), want) {
		t.Errorf("vgs: %q\nwant %q", tags, want)
	}
	out := j.lvm("pvs", "--noheadings", "-o", "vg_name,pv_mda_count,pv_mda_used_count,pe_start,pv_in_use,pv_pe_count", "--units", "m", "-S", "vg_name="+testDomain)
	if got, want := strings.Join(strings.Fields(out), " "), testDomain+" 2 2 129.00m used 93 "+testDomain+" 2 0 129.00m used 93"; got != want {
		t.Errorf("pvs: %q, want %q", got, want)
	}
	j.chain(d, volID(4), volID(3), volID(2), volID(1))
	j.lvmExtends(first, second, third)
}

// chain lets qemu-img follow the backing names of the image whose leaf is ids[0], and check each layer.
func (j judges) chain(d *Domain, ids ...string) {
	j.t.Helper()
	dir := j.t.TempDir()
	for _, id := range ids {
		j.extract(d, id, filepath.Join(dir, id))
	}
	var layers []struct {
		Filename string `json:"filename"`
		Size     int64  `json:"virtual-size"`
		Backing  string `json:"backing-filename"`
		Format   string `json:"backing-filename-format"`
	}
	info := testutil.Run(j.t, "qemu-img", "info", "--backing-chain", "--output", "json", filepath.Join(dir, ids[0]))
	if err := json.Unmarshal([]byte(info), &layers); err != nil || len(layers) != len(ids) {
		j.t.Fatalf("qemu-img info: %v\n%s", err, info)
	}
	for i, l := range layers {
		v, _ := d.Volume(ids[i])
		if l.Filename != filepath.Join(dir, ids[i]) || l.Size != v.Capacity || l.Backing != v.Parent || l.Backing != "" && l.Format != FormatQcow2 {
			j.t.Errorf("layer %d: %+v of %+v", i, l, v)
		}
		if out := testutil.Run(j.t, "qemu-img", "check", l.Filename); !strings.Contains(out, "No errors were found") {
			j.t.Errorf("qemu-img check: %s", out)
		}
	}
}

// extract copies the beginning of a volume, all that a new one has, into a file of its size.
func (j judges) extract(d *Domain, id, file string) {
	j.t.Helper()
	dev, err := d.Device(id)
	if err != nil {
		j.t.Fatal(err)
	}
	head := make([]byte, mib)
	if err := dev.ReadAt(deadline(j.t), head, 0); err != nil {
		j.t.Fatal(err)
	}
	if err := os.WriteFile(file, head, 0o600); err != nil {
		j.t.Fatal(err)
	}
	if err := os.Truncate(file, dev.Size()); err != nil {
		j.t.Fatal(err)
	}
}

// lvmExtends adds the third LUN as a VDSM does, but for its keys. We miss the LUN, and use it when we have it.
func (j judges) lvmExtends(first, second, third blockdev.Device) {
	j.t.Helper()
	j.lvm("pvcreate", "--metadatasize", "128m", "--metadatacopies", "2", "--metadataignore", "y", j.loops[2])
	j.lvm("vgextend", testDomain, j.loops[2])
	if _, err := Open(deadline(j.t), []blockdev.Device{first, second}, testOptions()); err == nil || !strings.Contains(err.Error(), "last seen as "+j.loops[2]) {
		j.t.Errorf("without the third LUN: %v", err)
	}
	d := openDomain(j.t, first, second, third)
	found, err := Check(deadline(j.t), d)
	if err != nil || len(found) != 1 || found[0].Severity != SeverityNote || !mentions(found, "list of LUNs") {
		j.t.Errorf("%v %v", found, err)
	}
	w := writer(j.t, d)
	if n := fillUp(j.t, w, 100); n < 4 {
		j.t.Errorf("%d volumes on the LUN that lvm2 added", n)
	}
	fourth := blockdev.NewMem(12*gib, 512).Rename("fourth")
	if _, err := w.AddLUN(deadline(j.t), LUN{Device: fourth, Seen: func(context.Context, string) error { return nil }}); err != nil {
		j.t.Fatal(err)
	}
	mustBeClean(j.t, first, second, third, fourth) // the keys are right again
}
