package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// errNoJudge says that a judge is not there, with the reason: its checks are left out.
var errNoJudge = errors.New("left out")

// judges runs the real programs on a LUN file.
type judges struct {
	lun    string // the file
	vg     string // the domain's UUID is the volume group's name
	device string // a loop device over lun, for lvm; set by attach
	quiet  bool   // warnings of lvm are no verdict
}

// judgeTimeout bounds one run of a judge.
const judgeTimeout = 60 * time.Second

// run runs a program and returns its output. A program that is not installed gives errNoJudge.
func (j *judges) run(ctx context.Context, name string, args ...string) (string, error) {
	path, err := toolPath(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	if name == "lvm" && !j.quiet && strings.Contains(stderr.String(), "WARNING") {
		return stdout.String(), fmt.Errorf("%s %s warns: %s", name, strings.Join(args, " "), strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// toolPath finds a program, in the system directories too, which are not on everybody's path.
func toolPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: %w", name, errNoJudge)
}

// attach makes a read-only loop device over the LUN, because lvm reads block devices only: no judge can write. detach
// takes it away.
func (j *judges) attach(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("lvm needs a loop device, and only root can make one: %w", errNoJudge)
	}
	return j.losetup(ctx, "--read-only")
}

func (j *judges) losetup(ctx context.Context, mode string) error {
	out, err := j.run(ctx, "losetup", "--find", "--show", mode, j.lun)
	if err != nil {
		return fmt.Errorf("no loop device for lvm (%w): %w", err, errNoJudge)
	}
	j.device = strings.TrimSpace(out)
	return nil
}

func (j *judges) detach() error {
	if j.device == "" {
		return nil
	}
	_, err := j.run(context.Background(), "losetup", "--detach", j.device)
	j.device = ""
	return err
}

// lvm runs an lvm command that sees the LUN and no other device, and no state of this machine's own lvm.
func (j *judges) lvm(ctx context.Context, verb string, args ...string) (string, error) {
	config := fmt.Sprintf(`devices { filter=["a|^%s$|","r|.*|"] global_filter=["a|^%s$|","r|.*|"] use_devicesfile=0 hints="none" `+
		`obtain_device_list_from_udev=0 } global { locking_type=1 event_activation=0 use_lvmpolld=0 } backup { backup=0 archive=0 }`,
		j.device, j.device)
	return j.run(ctx, "lvm", append([]string{verb, "--config", config}, args...)...)
}

// lv is a logical volume as lvm reports it.
type lv struct {
	Name   string
	Tags   []string
	Size   int64
	Offset int64 // of its first byte on the LUN; -1 when it has several segments
}

// lvs lists the volumes of the domain as lvm sees them.
func (j *judges) lvs(ctx context.Context) (map[string]lv, error) {
	out, err := j.lvm(ctx, "lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "--segments",
		"-o", "lv_name,lv_tags,lv_size,seg_start,seg_size,seg_pe_ranges,vg_extent_size", j.vg)
	if err != nil {
		return nil, err
	}
	start, err := j.peStart(ctx)
	if err != nil {
		return nil, err
	}
	var report struct {
		Report []struct {
			Seg []map[string]string `json:"seg"`
		} `json:"report"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Report) != 1 {
		return nil, fmt.Errorf("reading the report of lvs: %w", err)
	}
	vols := map[string]lv{}
	for _, seg := range report.Report[0].Seg {
		v, err := parseSegment(seg, start)
		if err != nil {
			return nil, err
		}
		if _, more := vols[v.Name]; more {
			v.Offset = -1
		}
		vols[v.Name] = v
	}
	return vols, nil
}

// peStart is where extent 0 lies on the LUN.
func (j *judges) peStart(ctx context.Context) (int64, error) {
	out, err := j.lvm(ctx, "pvs", "--noheadings", "--units", "b", "--nosuffix", "-o", "pe_start", j.device)
	if err != nil {
		return 0, err
	}
	return parseInt(out)
}

// parseSegment reads one line of the report. seg_pe_ranges is DEVICE:FIRST-LAST.
func parseSegment(seg map[string]string, start int64) (lv, error) {
	first, _, ok := strings.Cut(seg["seg_pe_ranges"][strings.LastIndexByte(seg["seg_pe_ranges"], ':')+1:], "-")
	extent, err1 := parseInt(first)
	extentSize, err2 := parseInt(seg["vg_extent_size"])
	size, err3 := parseInt(seg["lv_size"])
	if err := errors.Join(err1, err2, err3); err != nil || !ok {
		return lv{}, fmt.Errorf("reading segment %v of lvs: %w", seg, err)
	}
	return lv{Name: seg["lv_name"], Tags: strings.Split(seg["lv_tags"], ","), Size: size, Offset: start + extent*extentSize}, nil
}

func parseInt(s string) (int64, error) { return strconv.ParseInt(strings.TrimSpace(s), 10, 64) }

// dump is `sanlock direct dump` of a part of the LUN.
func (j *judges) dump(ctx context.Context, offset, size int64) (string, error) {
	return j.run(ctx, "sanlock", "direct", "dump", fmt.Sprintf("%s:%d:%d", j.lun, offset, size))
}

// qemuImg runs a verb of qemu-img on a qcow2 volume, read through the LUN file at the volume's place, without the layers that it is
// based on: their names are volume ids, which are no files here.
func (j *judges) qemuImg(ctx context.Context, verb string, v lv) (string, error) {
	spec, err := json.Marshal(map[string]any{
		"driver": "qcow2", "backing": nil,
		"file": map[string]any{
			"driver": "raw", "offset": v.Offset, "size": v.Size,
			"file": map[string]any{"driver": "file", "filename": j.lun, "locking": "off"},
		},
	})
	if err != nil {
		return "", fmt.Errorf("describing the volume to qemu-img: %w", err)
	}
	return j.run(ctx, "qemu-img", verb, "--output=json", "json:"+string(spec))
}
