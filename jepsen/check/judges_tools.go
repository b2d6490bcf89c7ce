package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LV is a volume of the domain as lvm2 reports it.
type LV struct {
	Name     string   `json:"name"`
	Tags     []string `json:"tags"`
	Size     int64    `json:"size"`
	Offset   int64    `json:"offset"` // of its first byte on the LUN; -1 when it has several segments
	Segments []Area   `json:"segments"`
}

// Slot is the volume's metadata slot by its tag; 0: it is no volume of a disk.
func (v LV) Slot() int {
	for _, t := range v.Tags {
		if s, ok := strings.CutPrefix(t, "MD_"); ok {
			n, _ := strconv.Atoi(s) // what is no number is no slot; the mirror's checker says so
			return n
		}
	}
	return 0
}

// find picks a volume by name.
func find(lvs []LV, name string) (LV, error) {
	i := slices.IndexFunc(lvs, func(v LV) bool { return v.Name == name })
	if i < 0 {
		return LV{}, fmt.Errorf("lvm2 lists no volume %s", name)
	}
	if lvs[i].Offset < 0 {
		return LV{}, fmt.Errorf("volume %s is in several pieces", name)
	}
	return lvs[i], nil
}

// judgeTime bounds one run of a program.
const judgeTime = 2 * time.Minute

// run runs a program and returns its output, also when it fails.
func (j *Judges) run(ctx context.Context, name string, args ...string) (string, error) {
	path, err := toolPath(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, judgeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	if name == "lvm" && strings.Contains(stderr.String(), "WARNING") {
		return stdout.String(), fmt.Errorf("%s %s warns: %s", name, args[0], strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// toolPath finds a program, also in the directories that only administrators have on their path.
func toolPath(name string) (string, error) {
	for _, p := range []string{name, filepath.Join("/usr/sbin", name), filepath.Join("/sbin", name)} {
		if path, err := exec.LookPath(p); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed; install it, what it has not seen is not judged", name)
}

// attach makes a read-only loop device over the LUN, because lvm reads block devices only and no judge may write.
func (j *Judges) attach(ctx context.Context) error {
	out, err := j.run(ctx, "losetup", "--find", "--show", "--read-only", j.LUN)
	if err != nil {
		return fmt.Errorf("no loop device for lvm; run as root: %w", err)
	}
	j.device = strings.TrimSpace(out)
	return nil
}

func (j *Judges) detach() error {
	if j.device == "" {
		return nil
	}
	_, err := j.run(context.Background(), "losetup", "--detach", j.device)
	j.device = ""
	return err
}

// lvm runs an lvm command that sees the LUN and no other device, and no state of this machine's own lvm.
func (j *Judges) lvm(ctx context.Context, verb string, args ...string) (string, error) {
	config := fmt.Sprintf(`devices { filter=["a|^%[1]s$|","r|.*|"] global_filter=["a|^%[1]s$|","r|.*|"] use_devicesfile=0 hints="none" `+
		`obtain_device_list_from_udev=0 } global { locking_type=1 event_activation=0 use_lvmpolld=0 } backup { backup=0 archive=0 }`, j.device)
	return j.run(ctx, "lvm", append([]string{verb, "--config", config}, args...)...)
}

// lvs lists the volumes of the domain.
func (j *Judges) lvs(ctx context.Context) ([]LV, error) {
	out, err := j.lvm(ctx, "lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "--segments",
		"-o", "lv_name,lv_tags,lv_size,seg_start,seg_size,seg_pe_ranges,vg_extent_size", j.Domain)
	if err != nil {
		return nil, err
	}
	start, err := j.lvm(ctx, "pvs", "--noheadings", "--units", "b", "--nosuffix", "-o", "pe_start", j.device)
	if err != nil {
		return nil, err
	}
	first, err := strconv.ParseInt(strings.TrimSpace(start), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading where the first extent lies: %w", err)
	}
	return parseLVs([]byte(out), first)
}

// parseLVs reads the report of lvs --segments.
func parseLVs(out []byte, peStart int64) ([]LV, error) {
	var report struct {
		Report []struct {
			Seg []map[string]string `json:"seg"`
		} `json:"report"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, fmt.Errorf("reading the report of lvs: %w", err)
	}
	if len(report.Report) != 1 {
		return nil, fmt.Errorf("the report of lvs has %d parts, and one was asked for", len(report.Report))
	}
	byName := map[string]*LV{}
	var names []string
	for _, seg := range report.Report[0].Seg {
		v, err := parseSegment(seg, peStart)
		if err != nil {
			return nil, fmt.Errorf("reading segment %v of lvs: %w", seg, err)
		}
		if was, more := byName[v.Name]; more {
			was.Segments, was.Offset = append(was.Segments, v.Segments...), -1
			continue
		}
		byName[v.Name] = &v
		names = append(names, v.Name)
	}
	slices.Sort(names)
	var all []LV
	for _, n := range names {
		all = append(all, *byName[n])
	}
	return all, nil
}

// parseSegment reads one line of the report. seg_pe_ranges is DEVICE:FIRST-LAST.
func parseSegment(seg map[string]string, peStart int64) (LV, error) {
	ranges := seg["seg_pe_ranges"]
	first, _, ok := strings.Cut(ranges[strings.LastIndexByte(ranges, ':')+1:], "-")
	if !ok {
		return LV{}, errors.New("no range of extents")
	}
	var n [5]int64
	for i, s := range []string{first, seg["vg_extent_size"], seg["lv_size"], seg["seg_start"], seg["seg_size"]} {
		var err error
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return LV{}, err
		}
	}
	a := Area{Name: seg["lv_name"], Off: peStart + n[0]*n[1], Len: n[4], At: n[3]}
	return LV{Name: a.Name, Tags: strings.Split(seg["lv_tags"], ","), Size: n[2], Offset: a.Off, Segments: []Area{a}}, nil
}

// dump is sanlock's view of a part of the LUN.
func (j *Judges) dump(ctx context.Context, off, size int64) (string, error) {
	return j.run(ctx, "sanlock", "direct", "dump", fmt.Sprintf("%s:%d:%d", j.LUN, off, size))
}

// qemuImg checks a qcow2 volume, read through the LUN's file at the volume's place.
func (j *Judges) qemuImg(ctx context.Context, v LV) error {
	spec, err := json.Marshal(map[string]any{"driver": "qcow2", "backing": nil, "file": map[string]any{"driver": "raw", "offset": v.Offset, "size": v.Size,
		"file": map[string]any{"driver": "file", "filename": j.LUN, "locking": "off"}}})
	if err != nil {
		return fmt.Errorf("describing the volume to qemu-img: %w", err)
	}
	_, err = j.run(ctx, "qemu-img", "check", "json:"+string(spec))
	return err
}
