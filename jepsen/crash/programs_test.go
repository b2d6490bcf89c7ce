package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// programs let lvm2, qemu-img and sanlock judge states, on loop devices that hold one after the other.
type programs struct {
	t     *testing.T
	base  *base
	dir   string          // lvm's configuration
	loop  string          // of the first LUN
	lun   blockdev.Device // all LUNs behind each other
	pages map[int64]bool  // in which the device may differ from the base
}

func newPrograms(t *testing.T, b *base) *programs {
	t.Helper()
	testutil.NeedTool(t, "lvm", "qemu-img", "sanlock")
	j := &programs{t: t, base: b, dir: t.TempDir(), pages: maps.Clone(b.pages)}
	var loops []string
	var segs []blockdev.Segment
	for n := range 1 + spares {
		size := window(b.mem, n).Size()
		loops = append(loops, testutil.LoopDevice(t, testutil.MemoryFile(t, fmt.Sprint("lun", n), size), sector))
		dev, err := blockdev.Open(testutil.Deadline(t), loops[n], blockdev.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = dev.Close() })
		segs = append(segs, blockdev.Segment{Dev: dev, Len: size})
	}
	var err error
	if j.lun, err = blockdev.NewLinear("all LUNs", segs); err != nil {
		t.Fatal(err)
	}
	j.loop = loops[0]
	config := `devices{filter=["a#^(` + strings.Join(loops, "|") + `)$#","r|.*|"] use_devicesfile=0 hints="none" obtain_device_list_from_udev=0 write_cache_state=0} ` +
		`global{event_activation=0 use_lvmpolld=0 use_aio=0} activation{monitoring=0 udev_sync=0 udev_rules=0 verify_udev_operations=0} backup{backup=0 archive=0}`
	if err := os.WriteFile(filepath.Join(j.dir, "lvm.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return j
}

// judge shows a state as the crash left it, and as it is after recovery and a little more.
func (j *programs) judge(e exhibit) error {
	ctx := testutil.Deadline(j.t)
	if err := j.show(ctx, e.crashed, e.pages); err != nil {
		return err
	}
	if err := j.vgck(true); err != nil {
		return fmt.Errorf("as the crash left it: %w", err)
	}
	if err := j.show(ctx, e.settled, e.pages); err != nil {
		return err
	}
	d, err := openDomain(ctx, j.lun, domainOptions())
	if err != nil {
		return err
	}
	places, err := j.volumes(d.Volumes())
	if err == nil {
		err = errors.Join(j.vgck(false), j.images(d.Volumes(), places), j.locks(ctx, d))
	}
	if err != nil {
		return fmt.Errorf("recovered: %w", err)
	}
	return nil
}

// show puts a state on the device. What the state before it had changed goes back.
func (j *programs) show(ctx context.Context, lun *blockdev.Mem, pages map[int64]bool) error {
	maps.Copy(j.pages, pages)
	for p := range j.pages {
		if err := j.lun.WriteAt(ctx, lun.Bytes(p*pageSize, pageSize), p*pageSize); err != nil {
			return err
		}
	}
	j.pages = maps.Clone(j.base.pages)
	maps.Copy(j.pages, pages)
	return nil
}

// lvm runs one command and returns its output and complaints.
func (j *programs) lvm(args ...string) (string, string, error) {
	cmd := testutil.Command(j.t, append([]string{"lvm"}, args...)...)
	cmd.Env = append(cmd.Env, "LVM_SYSTEM_DIR="+j.dir, "LVM_SUPPRESS_FD_WARNINGS=1", "DM_DISABLE_UDEV=1")
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var bad []string
	for line := range strings.Lines(e.String()) {
		if !strings.Contains(line, "device-mapper") && !strings.Contains(line, "/dev/mapper/control") && !strings.Contains(line, "libdevmapper") {
			bad = append(bad, strings.TrimSpace(line))
		}
	}
	return o.String(), strings.Join(bad, "; "), err
}

// vgck must have nothing to say, but right after a crash that one metadata area is older than the other.
func (j *programs) vgck(crashed bool) error {
	_, bad, err := j.lvm("vgck", domainID)
	if crashed && strings.Contains(bad, "ignoring metadata seqno") {
		bad = ""
	}
	if err != nil || bad != "" {
		return fmt.Errorf("vgck: %w: %s", err, bad)
	}
	return nil
}

// volumes compares what lvs says with the domain's volumes, and returns where on the device each begins.
func (j *programs) volumes(vols []domain.Volume) (map[string]int64, error) {
	out, bad, err := j.lvm("lvs", "--noheadings", "--separator", "|", "--units", "b", "--nosuffix", "-o", "lv_name,lv_size,lv_tags,seg_pe_ranges", domainID)
	if err != nil || bad != "" {
		return nil, fmt.Errorf("lvs: %w: %s", err, bad)
	}
	seen, places := map[string]string{}, map[string]int64{}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 4 {
			return nil, fmt.Errorf("lvs says %q", line)
		}
		dev, extent, _ := strings.Cut(f[3], ":")
		extent, _, _ = strings.Cut(extent, "-")
		n, err := strconv.ParseInt(extent, 10, 64)
		if err != nil || dev != j.loop {
			return nil, fmt.Errorf("lvs says %q, all volumes have room on %s: %w", line, j.loop, err)
		}
		seen[f[0]], places[f[0]] = f[1]+" "+f[2], (129+128*n)*mib
	}
	if special := 7; len(seen) != len(vols)+special {
		return nil, fmt.Errorf("lvs shows %d LVs, want %d: %s", len(seen), len(vols)+special, out)
	}
	for _, v := range vols {
		parent := v.ParentTag
		if parent == "" {
			parent = domain.NilUUID
		}
		if want := fmt.Sprintf("%d IU_%s,MD_%d,PU_%s", v.AllocatedBytes, v.Image, v.Slot, parent); seen[v.ID] != want {
			return nil, fmt.Errorf("lvs: volume %s is %q, want %q", v.ID, seen[v.ID], want)
		}
	}
	return places, nil
}

// images lets qemu-img check every qcow2 volume.
func (j *programs) images(vols []domain.Volume, places map[string]int64) error {
	for _, v := range vols {
		if v.Format != domain.FormatQcow2 {
			continue
		}
		out, err := testutil.TryRun(j.t, "qemu-img", "check", fmt.Sprintf(`json:{"driver":"qcow2","backing":null,"file":{"driver":"raw","offset":%d,"size":%d,`+
			`"file":{"driver":"host_device","filename":%q}}}`, places[v.ID], v.AllocatedBytes, j.loop))
		if err != nil || !strings.Contains(out, "No errors were found") {
			return fmt.Errorf("qemu-img check of %s: %w %s", v.ID, err, out)
		}
	}
	return nil
}

// locks lets sanlock read the lease of every volume, the external leases and the SPM's.
func (j *programs) locks(ctx context.Context, d *domain.Domain) error {
	places := map[string]int64{}
	for _, v := range d.Volumes() {
		_, off, err := d.VolumeResource(v.Slot)
		if err != nil {
			return err
		}
		places[v.ID] = off
	}
	s, err := take(ctx, j.lun)
	if err != nil {
		return err
	}
	if err := j.external(slices.Sorted(maps.Keys(s.leases))); err != nil {
		return err
	}
	_, places["SDM"], err = d.SPMResource()
	if err != nil {
		return err
	}
	for name, off := range places {
		out, err := testutil.TryRun(j.t, "sanlock", "direct", "read_leader", "-r", fmt.Sprintf("%s:%s:%s:%d", domainID, name, j.loop, off))
		if err != nil || !strings.Contains(out, "resource_name "+name) || !strings.Contains(out, "magic 0x6152010") {
			return fmt.Errorf("sanlock direct read_leader of %s at %d: %w %s", name, off, err, out)
		}
	}
	return nil
}

// external looks for the external leases in what sanlock dumps of their volume.
func (j *programs) external(ids []string) error {
	out, bad, err := j.lvm("lvs", "--noheadings", "-o", "seg_pe_ranges", domainID+"/xleases")
	_, extent, _ := strings.Cut(strings.TrimSpace(out), ":")
	extent, _, _ = strings.Cut(extent, "-")
	n, err2 := strconv.ParseInt(extent, 10, 64)
	if err := errors.Join(err, err2); err != nil || bad != "" {
		return fmt.Errorf("lvs of xleases: %w: %s %s", err, out, bad)
	}
	dump, err := testutil.TryRun(j.t, "sanlock", "direct", "dump", fmt.Sprintf("%s:%d:%d", j.loop, (129+128*n+3)*mib, 8*mib))
	for _, id := range ids {
		if err == nil && !strings.Contains(dump, id) {
			err = fmt.Errorf("external lease %s is not there: %s", id, dump)
		}
	}
	if err != nil {
		return fmt.Errorf("sanlock direct dump: %w", err)
	}
	return nil
}

// TestPrograms_catch: the programs see that a state is not what it is said to be.
func TestPrograms_catch(t *testing.T) {
	t.Parallel()
	b := newBase(t)
	j := newPrograms(t, b)
	x := &explorer{base: b, lim: limits{cuts: 1}, sample: func(key) bool { return true }}
	r := x.explore(t, "q", 40, nil)
	if len(r.findings) > 0 || len(r.exhibits) == 0 {
		t.Fatalf("%d exhibits, %v", len(r.exhibits), r.findings)
	}
	e := r.exhibits[len(r.exhibits)-1]
	if err := j.judge(e); err != nil {
		t.Fatal(err)
	}
	d, err := openDomain(testutil.Deadline(t), e.settled, domainOptions())
	if err != nil {
		t.Fatal(err)
	}
	_, lease, err := d.VolumeResource(1)
	if err != nil {
		t.Fatal(err)
	}
	places, err := j.volumes(d.Volumes())
	if err != nil {
		t.Fatal(err)
	}
	var head int64
	for _, v := range d.Volumes() {
		if v.Format == domain.FormatQcow2 {
			head = places[v.ID]
		}
	}
	for want, off := range map[string]int64{"sanlock": lease, "qemu-img": head + 64<<10, "vgck": 4096} {
		bad := e
		bad.settled = e.settled.Clone()
		bad.settled.SetBytes(off, bytes.Repeat([]byte{0xa5}, sector))
		if err := j.judge(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("damage at %d: %v, want %s to see it", off, err, want)
		}
	}
}
