//go:build vmtest

package pool

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const dmsetup = "/usr/sbin/dmsetup"

// tryTool runs a program and returns what it wrote.
func tryTool(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return strings.TrimSpace(string(out) + stderr.String()), fmt.Errorf("%v: %w", args, err)
	}
	return strings.TrimSpace(string(out)), nil
}

func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryTool(args...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

func lvm(t *testing.T, args ...string) string {
	t.Helper()
	return tool(t, append([]string{"/usr/sbin/lvm"}, args...)...)
}

// fields asks lvm2 for columns of its reports, in bytes.
func fields(t *testing.T, report, columns string, more ...string) []string {
	t.Helper()
	return strings.Fields(lvm(t, append([]string{report, "--noheadings", "--units", "b", "--nosuffix", "-o", columns}, more...)...))
}

// onePE is a run of extents as lvm2 writes it: the device and the first extent.
var onePE = regexp.MustCompile(`^(/dev/[a-z]+)\((\d+)\)$`)

// tableByLVM2 is the table that the volume must have, made of what lvm2 reads from the disk and nothing else.
func tableByLVM2(t *testing.T, a attachment) string {
	t.Helper()
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	extent, start := number(fields(t, "vgs", "vg_extent_size", a.Domain)[0]), number(fields(t, "pvs", "pe_start", lun)[0])
	var lines []string
	for line := range strings.Lines(lvm(t, "lvs", "--segments", "--noheadings", "--units", "b", "--nosuffix", "-o", "seg_start_pe,seg_size_pe,devices", a.Domain+"/"+a.Volume)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("lvs: %q", line)
		}
		m := onePE.FindStringSubmatch(f[2])
		if m == nil {
			t.Fatalf("lvs: %q", line)
		}
		var st unix.Stat_t
		if err := unix.Stat(m[1], &st); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%d %d linear %d:%d %d", number(f[0])*extent/512, number(f[1])*extent/512, unix.Major(st.Rdev), unix.Minor(st.Rdev),
			(start+number(m[2])*extent)/512))
	}
	return strings.Join(lines, "\n")
}

// agree compares the device with what real lvm2 and dmsetup say; attr is lvm2's.
func agree(t *testing.T, a attachment, attr string) (size int64) {
	t.Helper()
	f := fields(t, "lvs", "lv_attr,lv_active,lv_size,lv_dm_path", a.Domain+"/"+a.Volume)
	if len(f) != 4 || f[0] != attr || f[1] != "active" || f[3] != a.Path {
		t.Fatalf("lvs says %q, want %s active at %s", f, attr, a.Path)
	}
	if got, want := tool(t, dmsetup, "table", a.Path), tableByLVM2(t, a); got != want {
		t.Errorf("dmsetup has\n%s\nand by lvm2's reports it is\n%s", got, want)
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// frozen tells whether the device holds I/O, and will fail it when somebody resumes it.
func frozen(t *testing.T, a attachment) bool {
	t.Helper()
	return tool(t, dmsetup, "info", "-c", "--noheadings", "-o", "suspended", a.Path) == "Suspended" &&
		strings.HasSuffix(tool(t, dmsetup, "table", "--inactive", a.Path), "error")
}
