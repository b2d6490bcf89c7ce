package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// ErrUnavailable says that this machine cannot run guests: a program or a package is missing and cannot be fetched. What
// would have been tested was not.
var ErrUnavailable = errors.New("no virtual machine can be run here")

// QEMU is the program that runs guests.
const QEMU = "qemu-system-x86_64"

// Debian has the files of Debian's packages that a guest is made of.
type Debian struct {
	Root    string // what was unpacked
	Kernel  string // the image
	Modules string // the folder with all modules
	Busybox string
}

// imageName is the package of a kernel itself; linux-image-amd64 only points to it.
var imageName = regexp.MustCompile(`linux-image-[0-9][0-9a-z.+~-]*-amd64\b`)

// others are the packages besides the kernel: a shell, and udev with what it needs.
var others = []string{"busybox-static", "udev", "libkmod2", "libacl1"}

// FetchDebian downloads the kernel's package and some others into dir and unpacks them there, without installing anything. What is
// there already is taken.
func FetchDebian(ctx context.Context, dir string) (Debian, error) {
	for _, prog := range []string{QEMU, "apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(prog); err != nil {
			return Debian{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	dir, err := filepath.Abs(dir) // programs are run in it
	if err != nil {
		return Debian{}, err
	}
	if d, err := findDebian(dir); err == nil {
		return d, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Debian{}, err
	}
	out, err := output(ctx, dir, "apt-cache", "depends", "linux-image-amd64")
	if err != nil {
		return Debian{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	image := imageName.FindString(out)
	if image == "" {
		return Debian{}, fmt.Errorf("%w: apt-cache knows no kernel package; run apt-get update", ErrUnavailable)
	}
	if err := fetch(ctx, dir, append(others, image)...); err != nil {
		return Debian{}, err
	}
	return findDebian(dir)
}

// fetch downloads packages and unpacks them into dir/root.
func fetch(ctx context.Context, dir string, names ...string) error {
	if _, err := output(ctx, dir, "apt-get", append([]string{"download", "-q"}, names...)...); err != nil {
		return fmt.Errorf("%w: the packages %s cannot be fetched: %w", ErrUnavailable, strings.Join(names, " "), err)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := output(ctx, dir, "dpkg-deb", "-x", deb, "root"); err != nil {
			return fmt.Errorf("unpacking: %w", err)
		}
		if err := os.Remove(deb); err != nil {
			return err
		}
	}
	return nil
}

func findDebian(dir string) (Debian, error) {
	root := filepath.Join(dir, "root")
	kernel, kerr := one(filepath.Join(root, "boot", "vmlinuz-*"))
	mods, merr := one(filepath.Join(root, "lib", "modules", "*"))
	box, berr := one(filepath.Join(root, "bin", "busybox"))
	_, uerr := one(filepath.Join(root, "bin", "udevadm"))
	if err := errors.Join(kerr, merr, berr, uerr); err != nil {
		return Debian{}, err
	}
	return Debian{Root: root, Kernel: kernel, Modules: mods, Busybox: box}, nil
}

// Has tells whether a program can be put into a guest; ErrUnavailable says that it is neither in the packages nor here.
func (d Debian) Has(program string) error {
	if _, err := os.Stat(source(d.Root, program)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// one is the one file that matches.
func one(pattern string) (string, error) {
	all, err := filepath.Glob(pattern)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%d files match %s, not one: remove that folder and try again", len(all), pattern)
	}
	if err != nil {
		return "", err
	}
	return all[0], nil
}

// output runs a program in dir.
func output(ctx context.Context, dir, prog string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, prog, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", prog, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
