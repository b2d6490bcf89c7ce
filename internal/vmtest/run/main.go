// Command run is `make vmtest`: it builds the tests that need a real kernel's device-mapper or watchdog, boots Debian's
// kernel in QEMU, and runs them there beside real lvm2. It ends with 1 when something failed, and says in one line that nothing
// was tested when this machine cannot run guests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/vmtest"
)

// options are the command line's.
type options struct {
	goTool, dir, only, tests string
	timeout                  time.Duration
	required                 bool
}

func main() {
	var o options
	flag.StringVar(&o.goTool, "go", "go", "the go command")
	flag.StringVar(&o.dir, "dir", "bin/vmtest", "folder for packages, test programs and disks")
	flag.StringVar(&o.only, "only", "", "the one suite to run")
	flag.StringVar(&o.tests, "run", "", "the pattern of the tests to run, instead of the suite's")
	flag.DurationVar(&o.timeout, "timeout", 40*time.Minute, "bound of all")
	flag.BoolVar(&o.required, "required", false, "not being able to run is a failure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	err := o.run(ctx)
	cancel()
	stop()
	switch {
	case errors.Is(err, vmtest.ErrUnavailable) && !o.required:
		fmt.Printf("vmtest: NOT RUN, device-mapper and watchdog were not tested: %v\n", err)
	case err != nil:
		fmt.Fprintf(os.Stderr, "vmtest: FAILED: %v\n", err)
		os.Exit(1)
	}
}

// rules is where udev's are.
const rules = "/lib/udev/rules.d/"

// suite is one boot.
type suite struct {
	name     string
	pkg      string // whose tests run, built with the tag vmtest
	modules  []string
	programs []string
	files    map[string]string
	commands map[string]string // the program's own: the name in the guest, and the package
	disks    []int64           // sizes; only what is written takes space here
	setup    string            // what the shell does first
	tests    string            // the pattern of the tests
	judge    func(vmtest.Result) error
}

var suites = []suite{
	{
		name: "dm", pkg: "./blockdev/mapper/dm", modules: []string{"virtio_pci", "virtio_blk", "dm-mod"},
		programs: []string{"/usr/sbin/lvm", "/usr/sbin/dmsetup"}, disks: []int64{1 << 30, 1 << 30, 32 << 30},
		setup: "uname -r; /usr/sbin/dmsetup version", tests: "^TestGuest", judge: passed,
	},
	{
		name: "dm-udev", pkg: "./blockdev/mapper/dm", modules: []string{"virtio_pci", "virtio_blk", "dm-mod"},
		programs: []string{"/usr/sbin/dmsetup", "/bin/udevadm"}, disks: []int64{1 << 30, 1 << 30},
		files: map[string]string{
			"/sbin/dmsetup": "/usr/sbin/dmsetup", "/lib/systemd/systemd-udevd": "/bin/udevadm",
			rules + "50-udev-default.rules": rules + "50-udev-default.rules", rules + "55-dm.rules": rules + "55-dm.rules",
			rules + "56-lvm.rules": rules + "56-lvm.rules", rules + "95-dm-notify.rules": rules + "95-dm-notify.rules",
		},
		setup: "/lib/systemd/systemd-udevd --daemon", tests: "^TestUdev", judge: passed,
	},
	{
		name: "pool", pkg: "./internal/vmtest/pool", modules: []string{"virtio_pci", "virtio_blk", "dm-mod"},
		programs: []string{"/usr/sbin/lvm", "/usr/sbin/dmsetup"}, commands: map[string]string{"/usr/bin/holdfast": "./cmd/holdfast"},
		disks: []int64{64 << 30}, setup: "ip link set lo up", tests: "^TestGuest_pool$", judge: passed,
	},
	{
		name: "watchdog-stops", pkg: "./leases/watchdog", modules: []string{"softdog"},
		tests: "^TestGuest_stops$", judge: passed,
	},
	{
		name: "watchdog-fires", pkg: "./leases/watchdog", modules: []string{"softdog"},
		tests: "^TestGuest_fires$", judge: wasReset,
	},
}

// passed wants tests that ran and succeeded.
func passed(r vmtest.Result) error {
	if r.Status != 0 || !strings.Contains(r.Console, "--- PASS: Test") {
		return fmt.Errorf("the tests ended with status %d", r.Status)
	}
	return nil
}

// wasReset wants a machine that ended without a last word, after the lease had expired and before the time was over.
func wasReset(r vmtest.Result) error {
	switch {
	case !strings.Contains(r.Console, "the lease is good for another second"):
		return errors.New("the machine ended while its lease was good")
	case !strings.Contains(r.Console, "the lease has expired"):
		return errors.New("the machine was reset before the lease expired")
	case r.Status != -1 || strings.Contains(r.Console, "not reset in time"):
		return fmt.Errorf("the machine was not reset: status %d", r.Status)
	}
	return nil
}

func (o options) run(ctx context.Context) error {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	debian, err := vmtest.FetchDebian(ctx, filepath.Join(dir, "debian"))
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range suites {
		if o.only != "" && o.only != s.name {
			continue
		}
		if err := o.runSuite(ctx, dir, debian, s); err != nil {
			if errors.Is(err, vmtest.ErrUnavailable) || ctx.Err() != nil {
				return err
			}
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return errors.Join(failed...)
}

func (o options) runSuite(ctx context.Context, dir string, debian vmtest.Debian, s suite) error {
	for _, p := range s.programs {
		if err := debian.Has(p); err != nil {
			return err
		}
	}
	files, err := o.build(ctx, dir, s)
	if err != nil {
		return err
	}
	disks, err := makeDisks(dir, s.disks)
	defer removeAll(disks)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, s.name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	// Disks answer in real time, which a clock that jumps would take for an eternity.
	g := vmtest.Guest{Debian: debian, Modules: s.modules, Programs: s.programs, Disks: disks, Script: o.script(s), VirtualTime: len(s.disks) == 0,
		Files: files}
	r, err := g.Run(ctx, io.MultiWriter(log, os.Stdout))
	if err == nil {
		err = s.judge(r)
	}
	if err != nil {
		return fmt.Errorf("%w (all output in %s)", err, log.Name())
	}
	fmt.Printf("vmtest: %s passed in %v\n", s.name, r.Took.Round(time.Second))
	return nil
}

// build makes the suite's tests and commands, and says under which names the guest has them, and its other files.
func (o options) build(ctx context.Context, dir string, s suite) (files map[string]string, err error) {
	files = maps.Clone(s.files)
	if files == nil {
		files = map[string]string{}
	}
	files["/test"] = filepath.Join(dir, filepath.Base(s.pkg)+".test")
	if err := o.goBuild(ctx, "test", "-c", "-tags", "vmtest", "-trimpath", "-o", files["/test"], s.pkg); err != nil {
		return nil, err
	}
	for name, pkg := range s.commands {
		files[name] = filepath.Join(dir, filepath.Base(pkg)+".guest")
		if err := o.goBuild(ctx, "build", "-trimpath", "-ldflags", "-s -w", "-o", files[name], pkg); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// goBuild runs the go command. The guest has no libraries but lvm2's.
func (o options) goBuild(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, o.goTool, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// script runs the tests, for no longer than the guest has, so that they can say where they hang.
func (o options) script(s suite) string {
	tests := s.tests
	if o.tests != "" {
		tests = o.tests
	}
	return fmt.Sprintf("%s\nexec /test -test.v -test.timeout %v -test.run '%s'\n", s.setup, guestTimeout, tests)
}

// guestTimeout bounds the tests of one guest.
const guestTimeout = 20 * time.Minute

func makeDisks(dir string, sizes []int64) (paths []string, err error) {
	for i, size := range sizes {
		path := filepath.Join(dir, fmt.Sprintf("disk%d.%d", i, os.Getpid()))
		f, err := os.Create(path)
		if err != nil {
			return paths, err
		}
		paths = append(paths, path)
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return paths, err
		}
	}
	return paths, nil
}

func removeAll(paths []string) {
	for _, p := range paths {
		_ = os.Remove(p)
	}
}
