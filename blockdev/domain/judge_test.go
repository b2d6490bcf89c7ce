package domain

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// judges runs the real programs against LUN files.
type judges struct {
	t     *testing.T
	file  string // the first one
	loops []string
}

func newJudges(t *testing.T, files ...string) judges {
	testutil.NeedTool(t, "lvm", "qemu-img", "e2fsck")
	j := judges{t: t, file: files[0]}
	for _, f := range files {
		j.loops = append(j.loops, testutil.LoopDevice(t, f, 512))
	}
	return j
}

// lvm runs an LVM command that sees only the LUNs.
func (j judges) lvm(args ...string) string {
	j.t.Helper()
	config := fmt.Sprintf(`devices{filter=["a#^(%s)$#","r|.*|"] use_devicesfile=0 hints="none" obtain_device_list_from_udev=0 write_cache_state=0} `+
		`global{event_activation=0 use_lvmpolld=0} activation{monitoring=0 udev_sync=0 udev_rules=0 verify_udev_operations=0} backup{backup=0 archive=0}`, strings.Join(j.loops, "|"))
	out := testutil.Run(j.t, append([]string{"lvm", args[0], "--config", config}, args[1:]...)...)
	var lines []string
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "device-mapper") && !strings.Contains(line, "/dev/mapper/control") && !strings.Contains(line, "device mapper") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

// qemu runs qemu-img on the qcow2 image in a volume.
func (j judges) qemu(d *Domain, id, verb string) string {
	j.t.Helper()
	_, off, err := d.group.Locate(id, 0)
	if err != nil {
		j.t.Fatal(err)
	}
	v, _ := d.Volume(id)
	image := fmt.Sprintf(`json:{"driver":"qcow2","backing":null,"file":{"driver":"raw","offset":%d,"size":%d,"file":{"driver":"file","filename":%q}}}`,
		off, v.AllocatedBytes, j.file)
	return testutil.Run(j.t, "qemu-img", verb, image)
}

func TestJudges(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "lvm", "qemu-img", "mke2fs", "e2fsck")
	file := testutil.SparseFile(t, "lun", lunSize)
	lun, err := blockdev.Open(deadline(t), file, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lun.Close() }()
	o := testCreateOptions(lun)
	o.FormatMaster = nil // the real one
	if _, err := Create(deadline(t), o); err != nil {
		t.Fatal(err)
	}
	d := openDomain(t, lun)
	w := writer(t, d)
	for n := range 20 {
		create(t, w, qcow(n))
	}
	for n := range 5 {
		if err := w.Delete(deadline(t), volID(2*n)); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	j := newJudges(t, file)
	j.domain(d)
	j.volumes(d)
	j.lvmWrites(lun)
}

// domain judges what Create wrote.
func (j judges) domain(d *Domain) {
	if out := j.lvm("vgck", testDomain); out != "" {
		j.t.Errorf("vgck: %s", out)
	}
	tags := strings.Split(j.lvm("vgs", "--noheadings", "-o", "vg_tags", testDomain), ",")
	want := append([]string{tagReady}, d.Keys().tags()...)
	slices.Sort(want)
	slices.Sort(tags)
	if !slices.Equal(tags, want) {
		j.t.Errorf("vgs: %q\nwant %q", tags, want)
	}
	if out := j.lvm("pvs", "--noheadings", "-o", "pv_mda_count,pv_mda_used_count,pe_start,pv_in_use", "--units", "m"); strings.Join(strings.Fields(out), " ") != "2 2 129.00m used" {
		j.t.Errorf("pvs: %q", out)
	}
	_, off, err := d.group.Locate("master", 0)
	if err != nil {
		j.t.Fatal(err)
	}
	testutil.Run(j.t, "e2fsck", "-f", "-n", fmt.Sprintf("%s?offset=%d", j.file, off))
}

// volumes judges what the Writer wrote.
func (j judges) volumes(d *Domain) {
	seen := map[string]string{}
	for line := range strings.Lines(j.lvm("lvs", "--noheadings", "--separator", "|", "-o", "lv_name,lv_size,lv_tags", "--units", "b", "--nosuffix", testDomain)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), "|")
		seen[name] = rest
	}
	vols := d.Volumes()
	if len(seen) != len(vols)+len(specials) {
		j.t.Errorf("lvs shows %d LVs", len(seen))
	}
	for _, v := range vols {
		want := fmt.Sprintf("%d|IU_%s,MD_%d,PU_%s", v.AllocatedBytes, v.Image, v.Slot, parentOnDisk(v.ParentTag))
		if seen[v.ID] != want {
			j.t.Errorf("lvs: %s is %q, want %q", v.ID, seen[v.ID], want)
		}
		if v.Format != FormatQcow2 {
			continue
		}
		if out := j.qemu(d, v.ID, "check"); !strings.Contains(out, "No errors were found") {
			j.t.Errorf("qemu-img check: %s", out)
		}
		if out := j.qemu(d, v.ID, "info"); !strings.Contains(out, fmt.Sprintf("(%d bytes)", v.Capacity)) {
			j.t.Errorf("qemu-img info: %s", out)
		}
	}
}

// lvmWrites lets LVM leave what a VDSM leaves when it dies, and recovers from it.
func (j judges) lvmWrites(lun blockdev.Device) {
	half, gone := volID(101), volID(102)
	lvcreate := []string{"lvcreate", "-an", "-Zn", "-Wn", "--autobackup", "n", "--driverloaded", "n", "--size", "256m"}
	j.lvm(append(lvcreate, "--name", half, "--addtag", tagInitializing, testDomain)...)
	j.lvm(append(lvcreate, "--name", gone, "--addtag", "IU__remove_me_"+imgID(102), "--addtag", "MD_50", "--addtag", "PU_"+NilUUID, testDomain)...)
	d := openDomain(j.t, lun)
	w, report, err := d.BecomeWriter(deadline(j.t), openGuard{epoch: 9})
	if err != nil {
		j.t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if len(report.Actions) != 2 || !report.Changed() {
		j.t.Errorf("%+v", report)
	}
	create(j.t, w, qcow(200))
	if out := j.lvm("vgck", testDomain); out != "" {
		j.t.Errorf("vgck: %s", out)
	}
	j.volumes(d)
	mustBeClean(j.t, lun)
}
