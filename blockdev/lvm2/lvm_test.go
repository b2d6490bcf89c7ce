package lvm2

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// lvm runs the real lvm2 on a few devices and nothing else.
type lvm struct {
	t    testing.TB
	dir  string // its configuration
	devs []string
}

// loops makes loop devices of the given size and opens them for us.
func loops(t testing.TB, sectorSize int, sizes ...int64) (*lvm, []blockdev.Device) {
	t.Helper()
	testutil.NeedTool(t, "lvm")
	l := &lvm{t: t, dir: t.TempDir()}
	var devs []blockdev.Device
	for i, size := range sizes {
		path := testutil.LoopDevice(t, testutil.MemoryFile(t, fmt.Sprintf("pv%d", i), size), sectorSize)
		d, err := blockdev.Open(testContext(t), path, blockdev.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		l.devs, devs = append(l.devs, path), append(devs, d)
	}
	l.configure()
	return l, devs
}

// configure keeps lvm to the devices.
func (l *lvm) configure() {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, "lvm.conf"), []byte(l.config()), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// config keeps lvm away from other devices, daemons, caches and the host's files. It stands in place of the host's own,
// which takes lvm longer to read than the command takes.
func (l *lvm) config() string {
	return `devices{filter=["a#^(` + strings.Join(l.devs, "|") + `)$#","r|.*|"] use_devicesfile=0 hints="none" ` +
		`obtain_device_list_from_udev=0 write_cache_state=0} global{event_activation=0 use_lvmpolld=0 use_aio=0} ` +
		`report{output_format="json"} activation{monitoring=0 udev_sync=0 udev_rules=0 verify_udev_operations=0} backup{backup=0 archive=0}`
}

// noise are the lines that lvm prints on a kernel without device-mapper.
var noise = []string{"/dev/mapper/control", "device-mapper driver", "device-mapper is available", "Incompatible libdevmapper",
	"Activation disabled", "metadata update is NOT backed up", " not zeroed."}

// try runs an lvm command and returns its output, its complaints and how it ended.
func (l *lvm) try(args ...string) (out, complaints string, err error) {
	l.t.Helper()
	return l.start("", args...)
}

// start runs one lvm. Without arguments it takes commands from input, a line each, and complains about those that fail.
func (l *lvm) start(input string, args ...string) (out, complaints string, err error) {
	l.t.Helper()
	cmd := testutil.Command(l.t, append([]string{"lvm"}, args...)...)
	cmd.Env = append(cmd.Env, "LVM_SYSTEM_DIR="+l.dir, "LVM_SUPPRESS_FD_WARNINGS=1", "DM_DISABLE_UDEV=1")
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &o, &e
	err = cmd.Run()
	var bad []string
	for line := range strings.Lines(e.String()) {
		if !slices.ContainsFunc(noise, func(n string) bool { return strings.Contains(line, n) }) {
			bad = append(bad, line)
		}
	}
	return o.String(), strings.Join(bad, ""), err
}

// run is try for commands that must succeed without a complaint.
func (l *lvm) run(args ...string) string {
	l.t.Helper()
	out, bad, err := l.try(args...)
	if err != nil || bad != "" {
		l.t.Fatalf("lvm %s: %v\n%s%s", strings.Join(args, " "), err, out, bad)
	}
	return out
}

// report runs a report command and returns its rows.
func (l *lvm) report(cmd, fields string, more ...string) []map[string]string {
	l.t.Helper()
	return l.rows(json.NewDecoder(strings.NewReader(l.run(append(reportArgs(cmd, fields), more...)...))))
}

func reportArgs(cmd, fields string) []string {
	return []string{cmd, "--units", "b", "--nosuffix", "-o", fields}
}

// rows reads the rows of the next report. Commands that report nothing print an empty object.
func (l *lvm) rows(d *json.Decoder) []map[string]string {
	l.t.Helper()
	var r struct {
		Report []map[string][]map[string]string
	}
	for r.Report == nil {
		if err := d.Decode(&r); err != nil {
			l.t.Fatalf("report of lvm: %v", err)
		}
	}
	for _, section := range r.Report {
		for _, rows := range section {
			return rows
		}
	}
	return nil
}

// agree asks lvm whether the group is sound and compares everything it reports with what we believe.
func (l *lvm) agree(g *Group) {
	l.t.Helper()
	vg := g.VG()
	out, bad, err := l.start(strings.Join([]string{"vgck " + vg.Name, strings.Join(reportArgs("pvs", pvFields), " "),
		strings.Join(reportArgs("lvs", lvFields), " ") + " -a --segments " + vg.Name}, "\n"))
	if err != nil || bad != "" {
		l.t.Fatalf("vgck, pvs or lvs: %v\n%s%s", err, out, bad)
	}
	reports := json.NewDecoder(strings.NewReader(out))
	l.samePVs(vg, l.rows(reports))
	l.sameLVs(g, vg, l.rows(reports))
}

const (
	pvFields = "pv_name,pv_uuid,pe_start,pv_pe_count,pv_pe_alloc_count,pv_in_use,pv_mda_count,vg_name,vg_uuid,vg_seqno,vg_free_count,vg_extent_size,vg_tags,vg_mda_free"
	lvFields = "lv_name,lv_uuid,lv_size,lv_tags,lv_host,segtype,seg_start_pe,seg_size_pe,seg_pe_ranges"
)

// sameLVs compares logical volumes and where they lie.
func (l *lvm) sameLVs(g *Group, vg *VG, rows []map[string]string) {
	l.t.Helper()
	var got, want []string
	for _, r := range rows {
		got = append(got, fmt.Sprint(r["lv_name"], r["lv_uuid"], r["lv_size"], r["lv_tags"], r["lv_host"], r["seg_start_pe"], r["seg_size_pe"], r["seg_pe_ranges"]))
	}
	for _, lv := range vg.LVs {
		tags := slices.Sorted(slices.Values(lv.Tags))
		for _, s := range lv.Segments {
			a := s.Areas[0]
			where := fmt.Sprintf("%s:%d-%d", g.Devices()[a.PV].Name(), a.StartPE, a.StartPE+s.ExtentCount-1)
			want = append(want, fmt.Sprint(lv.Name, lv.ID, strconv.FormatInt(vg.Size(lv), 10), strings.Join(tags, ","), lv.Host,
				strconv.FormatInt(s.StartExtent, 10), strconv.FormatInt(s.ExtentCount, 10), where))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		l.t.Fatalf("lvs says\n%s\nwe say\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// samePVs compares physical volumes and the group.
func (l *lvm) samePVs(vg *VG, rows []map[string]string) {
	l.t.Helper()
	if len(rows) != len(vg.PVs) {
		l.t.Fatalf("pvs has %d rows: %v", len(rows), rows)
	}
	tags := strings.Join(slices.Sorted(slices.Values(vg.Tags)), ",")
	for _, r := range rows {
		i := slices.IndexFunc(vg.PVs, func(p PV) bool { return p.ID == r["pv_uuid"] })
		if i < 0 {
			l.t.Fatalf("we do not know physical volume %v", r)
		}
		p := vg.PVs[i]
		got := fmt.Sprintln(r["pe_start"], r["pv_pe_count"], r["pv_pe_alloc_count"], r["pv_in_use"], r["vg_name"], r["vg_uuid"], r["vg_seqno"], r["vg_free_count"], r["vg_extent_size"], r["vg_tags"])
		want := fmt.Sprintln(p.PEStart, p.PECount, p.PECount-vg.FreeOf(i), "used", vg.Name, vg.ID, vg.Seqno, vg.FreeExtents(), vg.ExtentSize, tags)
		if got != want {
			l.t.Fatalf("pvs says\n%swe say\n%s", got, want)
		}
	}
}

// verbatim asks lvm for the text on the disk and compares it with what we print for the same state.
func (l *lvm) verbatim(g *Group) {
	l.t.Helper()
	out := filepath.Join(l.t.TempDir(), "text")
	l.run("pvck", "--dump", "metadata", "-f", out, l.devs[0])
	text, err := os.ReadFile(out)
	if err != nil {
		l.t.Fatal(err)
	}
	if want := groupText(g.VG()); !bytes.HasPrefix(text, want) {
		l.t.Fatalf("on the disk\n%s\nwe print\n%s", text, want)
	}
	if err := CheckStrict(append(bytes.TrimRight(text, "\x00\n"), "\n\n\x00"...)); err != nil {
		l.t.Fatal(err)
	}
}

// step lets lvm do one random change.
func (l *lvm) step(r *rand.Rand, vg *VG) {
	l.t.Helper()
	no := []string{"--driverloaded", "n", "--autobackup", "n"}
	name := ""
	if len(vg.LVs) > 0 {
		name = vg.Name + "/" + vg.LVs[r.IntN(len(vg.LVs))].Name
	}
	tag := fmt.Sprintf("L%d", r.IntN(9))
	switch n := r.IntN(10); {
	case (name == "" || n < 4) && vg.FreeExtents() > 0:
		size := fmt.Sprint(1 + r.Int64N(min(vg.FreeExtents(), 20)))
		l.run(append([]string{"lvcreate", "-an", "-Zn", "-Wn", "-n", fmt.Sprintf("l%d", r.Uint32()), "-l", size, "--addtag", tag, vg.Name}, no...)...)
	case name != "" && n < 6:
		l.run(append([]string{"lvremove", "-y", name}, no...)...)
	case name != "" && n < 8 && vg.FreeExtents() > 0:
		l.run(append([]string{"lvextend", "-l", fmt.Sprint("+", 1+r.Int64N(min(vg.FreeExtents(), 9))), name}, no...)...)
	case name != "" && n < 9:
		l.run(append([]string{"lvchange", "--addtag", tag, name}, no...)...)
	default:
		l.run("vgchange", "--addtag", tag, "--autobackup", "n", vg.Name)
	}
}

// TestLVM_histories lets lvm2 and us change the same groups in turn. Odd seeds begin with a group that lvm2 made,
// even ones with ours.
func TestLVM_histories(t *testing.T) {
	t.Parallel()
	histories := 200
	if testing.Short() {
		histories = 20
	}
	const workers = 8
	for worker := range workers {
		t.Run(fmt.Sprintf("worker=%d", worker), func(t *testing.T) {
			t.Parallel()
			ss := 512
			if worker >= 6 {
				ss = 4096
			}
			l, devs := loops(t, ss, []int64{4 << 20, 3 << 20}[:1+worker/2%2]...)
			for seed := worker; seed < histories; seed += workers {
				if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { lvmHistory(t, l.in(t), devs, uint64(seed)) }) {
					return
				}
			}
		})
	}
}

// in is the same lvm for a sub-test.
func (l *lvm) in(t testing.TB) *lvm { return &lvm{t, l.dir, l.devs} }

func lvmHistory(t *testing.T, l *lvm, devs []blockdev.Device, seed uint64) {
	ctx, r := testContext(t), rand.New(rand.NewPCG(seed, 4))
	for _, d := range devs {
		if err := d.WriteZeroes(ctx, 0, d.Size()); err != nil {
			t.Fatal(err)
		}
	}
	g := startGroup(t, ctx, r, l, devs, seed%2 == 1)
	for range 2 {
		for range 1 + r.IntN(20) {
			tx := g.Begin()
			randomChange(t, r, tx)
			if err := g.Commit(ctx, tx, nil, "differential test"); err != nil {
				t.Fatal(err)
			}
		}
		l.agree(g)
		l.step(r, g.VG())
		if _, err := g.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		checkDisk(t, ctx, g)
	}
	l.verbatim(g)
}

// startGroup makes a group with a small ring, by lvm or by us.
func startGroup(t *testing.T, ctx context.Context, r *rand.Rand, l *lvm, devs []blockdev.Device, byLVM bool) *Group {
	t.Helper()
	if !byLVM {
		return smallGroup(t, ctx, devs...)
	}
	copies := strconv.Itoa(1 + r.IntN(2))
	l.run(append([]string{"pvcreate", "--metadatasize", "60k", "--metadatacopies", copies, "--dataalignment", "64k"}, l.devs...)...)
	l.run(append([]string{"vgcreate", "-s", "64k", "lvmmade"}, l.devs...)...)
	g, err := Open(ctx, devs)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
