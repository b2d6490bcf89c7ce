package vmtest

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed init.sh
var initScript string

// Guest is a machine to be.
type Guest struct {
	Debian Debian
	// Modules are loaded before the script runs, with what they depend on.
	Modules []string
	// Programs of Debian's packages, or else of this machine, are put under the same path, with their libraries.
	Programs []string
	// Files are copied: the name in the guest, and the path in Debian's packages or else on this machine.
	Files map[string]string
	// Args are further arguments for QEMU, such as a disk that is no file.
	Args []string
	// Disks are raw files, /dev/vda and so on in the guest.
	Disks []string
	// Script is run by busybox's shell.
	Script string
	// VirtualTime makes the guest's clock count its instructions, and jump when it is idle: a busy machine around it costs no time
	// that the guest could see. Not for guests that use disks: they would see them time out.
	VirtualTime bool
	// MemoryMB is the guest's memory. Default 768.
	MemoryMB int
}

// Result is how a guest ended.
type Result struct {
	// Status is the script's exit status; -1 when the guest never came to say it.
	Status int
	// Console is all that it said.
	Console string
	// Took is the time from start to end.
	Took time.Duration
}

// killGrace is how long QEMU's end is waited for after it was killed.
const killGrace = 10 * time.Second

// maxConsole bounds what is kept of a guest that talks too much.
const maxConsole = 16 << 20

// Run boots the guest and waits for its end: power off, or a reset, which ends it too. What it says is also written to log. The
// end of ctx kills it.
func (g Guest) Run(ctx context.Context, log io.Writer) (Result, error) {
	dir, err := os.MkdirTemp("", "vmtest")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initrd")
	if err := g.writeInitrd(initrd); err != nil {
		return Result{}, fmt.Errorf("making the guest's initramfs: %w", err)
	}
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	token := hex.EncodeToString(raw[:])
	console := &console{log: log}
	cmd := exec.CommandContext(ctx, QEMU, g.arguments(initrd, token)...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = console, console, killGrace
	begin := time.Now()
	err = cmd.Run()
	out := console.buf.String()
	res := Result{Status: exitStatus(out, token), Console: out, Took: time.Since(begin)}
	if err != nil {
		return res, fmt.Errorf("%s: %w", QEMU, errors.Join(err, ctx.Err()))
	}
	return res, nil
}

// console keeps and passes on what a guest says.
type console struct {
	buf bytes.Buffer
	log io.Writer
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	if room := maxConsole - c.buf.Len(); room > 0 {
		c.buf.Write(p[:min(room, len(p))])
	}
	return c.log.Write(p)
}

// exitStatus finds the guest's last word; -1 when it is not there. Only the last line of all with this boot's token counts.
func exitStatus(out, token string) int {
	all := regexp.MustCompile(`(?m)^vmtest `+regexp.QuoteMeta(token)+` exit ([0-9]{1,3})\r?$`).FindAllStringSubmatch(out, -1)
	if token == "" || len(all) == 0 {
		return -1
	}
	n, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		return -1
	}
	return n
}

func (g Guest) arguments(initrd, token string) []string {
	memory := g.MemoryMB
	if memory == 0 {
		memory = 768
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", strconv.Itoa(memory),
		"-kernel", g.Debian.Kernel, "-initrd", initrd,
		"-append", "console=ttyS0 loglevel=4 panic=-1 vmtest.token=" + token,
	}
	if g.VirtualTime {
		args = append(args, "-icount", "shift=2,sleep=off", "-rtc", "clock=vm")
	}
	for i, d := range g.Disks {
		id := "disk" + strconv.Itoa(i)
		args = append(args, "-drive", "if=none,format=raw,cache=unsafe,discard=unmap,id="+id+",file="+strings.ReplaceAll(d, ",", ",,"),
			"-device", "virtio-blk-pci,drive="+id)
	}
	return append(args, g.Args...)
}

// writeInitrd packs everything that the guest has.
func (g Guest) writeInitrd(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	a := newArchive(f)
	for _, d := range []string{"/proc", "/sys", "/dev", "/tmp", "/etc", "/run/lock"} {
		a.dir(d)
	}
	a.char("/dev/console", 5, 1)
	a.text("/init", initScript)
	a.text("/script", g.Script)
	a.file("/bin/busybox", g.Debian.Busybox)
	err = errors.Join(g.addModules(a), g.addPrograms(a))
	for name, from := range g.Files {
		a.file(name, source(g.Debian.Root, from))
	}
	return errors.Join(err, a.close(), f.Close())
}

func (g Guest) addModules(a *archive) error {
	files, err := modules(g.Debian.Modules, g.Modules)
	if err != nil {
		return err
	}
	order := ""
	for _, f := range files {
		a.file("/modules/"+filepath.Base(f), f)
		order += filepath.Base(f) + "\n"
	}
	a.text("/modules.order", order)
	return nil
}

// addPrograms adds programs and each library once, under the names by which they are looked for.
func (g Guest) addPrograms(a *archive) error {
	seen := map[string]bool{}
	for _, p := range g.Programs {
		libs, err := libraries(g.Debian.Root, p)
		if err != nil {
			return err
		}
		for _, f := range append([]string{p}, libs...) {
			if !seen[f] {
				seen[f] = true
				a.file(f, source(g.Debian.Root, f))
			}
		}
	}
	return nil
}
