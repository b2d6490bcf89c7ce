package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/procs"
)

var tagForm = regexp.MustCompile(`^[A-Za-z0-9]{1,40}$`)

func checkTag(tag string) error {
	if !tagForm.MatchString(tag) {
		return fmt.Errorf("pool: the tag %q is not of 1 to 40 letters and digits", tag)
	}
	return nil
}

// loop is one loop device that carries a host's disk.
type loop struct {
	dev, image string
	mounts     []string
}

// Sweep removes what a pool of this tag left behind when its harness was killed: processes, frozen and mounted disks with their files,
// and namespaces. It must not be called for a pool that is in use. Nothing there is no error.
func Sweep(tag string) error {
	if err := checkTag(tag); err != nil {
		return err
	}
	loops, err := loopsOf(tag + "-")
	if err != nil {
		return err
	}
	for _, l := range loops {
		for _, at := range l.mounts {
			d := disk{at: at, frozen: true}
			err = errors.Join(err, d.thaw())
		}
	}
	err = errors.Join(err, killMarked(poolMark+"="+tag))
	for _, l := range loops {
		err = errors.Join(err, l.remove())
	}
	if os.Geteuid() == 0 {
		err = errors.Join(err, deleteNamespaces(tag))
	}
	return err
}

// killMarked kills processes until none with the mark is left.
func killMarked(mark string) error {
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	for {
		pids, err := procs.Family(0, mark)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := procs.Kill(ctx, pid); err != nil {
				return err
			}
		}
	}
}

// remove unmounts a disk and removes its file. The loop device goes with the last mount; one without a mount is detached.
func (l loop) remove() error {
	var err error
	for _, at := range l.mounts {
		err = errors.Join(err, umount(at))
	}
	if len(l.mounts) == 0 {
		_, err = tool("losetup", "--detach", l.dev)
	}
	if rerr := os.Remove(l.image); !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// loopsOf finds the loop devices whose file's name begins so.
func loopsOf(prefix string) ([]loop, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	var loops []loop
	for _, f := range files {
		b, err := os.ReadFile(f)
		image := strings.TrimSpace(string(b))
		if err != nil || !strings.HasPrefix(filepath.Base(image), prefix) { // or it was detached meanwhile
			continue
		}
		l := loop{dev: "/dev/" + strings.Split(f, "/")[3], image: image}
		for line := range strings.Lines(string(mounts)) {
			if w := strings.Fields(line); len(w) > 1 && w[0] == l.dev {
				l.mounts = append(l.mounts, unescape(w[1]))
			}
		}
		loops = append(loops, l)
	}
	return loops, nil
}

// unescape undoes what the kernel does to blanks in a path.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// ownTag is the form of tags that this package makes up: the harness's pid is in it.
var ownTag = regexp.MustCompile(`^hfj(\d+)p\d+$`)

// SweepDead sweeps the pools of harnesses that do not run any more, and says which those were. Tags that somebody chose are left alone.
func SweepDead() ([]string, error) {
	names, err := namespaces()
	if err != nil {
		return nil, err
	}
	var swept []string
	var errs []error
	for _, ns := range names {
		tag, isSwitch := strings.CutSuffix(ns, "-sw")
		m := ownTag.FindStringSubmatch(tag)
		if !isSwitch || m == nil || running(m[1]) {
			continue
		}
		swept = append(swept, tag)
		errs = append(errs, Sweep(tag))
	}
	return swept, errors.Join(errs...)
}

// running says whether there is a process of this number. A stranger that got it only puts the sweep off.
func running(pid string) bool {
	err := unix.Stat("/proc/"+pid, &unix.Stat_t{})
	return err == nil
}
