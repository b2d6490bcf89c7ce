package vmtest

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entries reads an archive back, by the format's description and not by our writer's code.
func entries(t *testing.T, b []byte) (names []string, contents map[string]string) {
	t.Helper()
	contents = map[string]string{}
	for len(b) > 0 {
		if len(b) < 110 || string(b[:6]) != "070701" {
			t.Fatalf("no header: %q", b[:min(len(b), 20)])
		}
		var f [13]int
		for i := range f {
			n, err := strconv.ParseInt(string(b[6+8*i:14+8*i]), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			f[i] = int(n)
		}
		size, nameSize := f[6], f[11]
		start := (110 + nameSize + 3) &^ 3
		name := string(b[110 : 110+nameSize-1])
		if name == trailer {
			return names, contents
		}
		names = append(names, name)
		contents[name] = string(b[start : start+size])
		b = b[(start+size+3)&^3:]
	}
	t.Fatal("no trailer")
	return nil, nil
}

func TestArchive(t *testing.T) {
	t.Parallel()
	from := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(from, []byte("seven!!"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	a := newArchive(&b)
	a.dir("/proc")
	a.text("/init", "#!/bin/sh\n")
	a.file("/usr/lib/x/f", from)
	a.char("/dev/console", 5, 1)
	a.file("/usr/lib/x/g", from)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	names, contents := entries(t, b.Bytes())
	want := []string{"proc", "init", "usr", "usr/lib", "usr/lib/x", "usr/lib/x/f", "dev", "dev/console", "usr/lib/x/g"}
	if !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	if contents["init"] != "#!/bin/sh\n" || contents["usr/lib/x/g"] != "seven!!" {
		t.Errorf("%q", contents)
	}
	a = newArchive(&b)
	a.file("/x", from+".gone")
	if err := a.close(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A guest that says nothing, the wrong thing, or something after its last word has not passed.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]int{
		"boot\nvmtest abc exit 0\r\n": 0, "vmtest abc exit 3\n[ 1.0] reboot: Power down\n": 3, "vmtest abc exit 0\nvmtest abc exit 1\n": 1,
		"": -1, "vmtest def exit 0\n": -1, "vmtest abc exit \n": -1, "vmtest abc exit 0 \n": -1, "say vmtest abc exit 0\n": -1, "vmtest abc exit -1\n": -1,
	} {
		if got := exitStatus(out, "abc"); got != want {
			t.Errorf("%q: %d, want %d", out, got, want)
		}
	}
	if exitStatus("vmtest  exit 0\n", "") != -1 {
		t.Error("no token is a token")
	}
}

// module writes a file that has the one section of a kernel module that matters.
func module(t *testing.T, dir, name, depends string) {
	t.Helper()
	names := "\x00.modinfo\x00.shstrtab\x00"
	info := "license=GPL\x00depends=" + depends + "\x00name=" + name + "\x00"
	at := uint64(64)
	sections := []elf.Section64{{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(info)), Size: uint64(len(names))}}
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: at + uint64(len(info)+len(names)),
		Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var b bytes.Buffer
	for _, x := range []any{h, []byte(info), []byte(names), sections} {
		if err := binary.Write(&b, binary.LittleEndian, x); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, name+".ko"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestModules_order(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	module(t, dir, "virtio_pci", "virtio_ring,virtio")
	module(t, dir, "virtio_ring", "virtio")
	module(t, dir, "virtio", "")
	module(t, dir, "dm-mod", "")
	module(t, dir, "loops", "loops2")
	module(t, dir, "loops2", "loops")
	module(t, dir, "needy", "gone")
	got, err := modules(dir, []string{"virtio-pci", "dm_mod", "virtio"})
	var base []string
	for _, f := range got {
		base = append(base, filepath.Base(f))
	}
	if want := []string{"virtio.ko", "virtio_ring.ko", "virtio_pci.ko", "dm-mod.ko"}; err != nil || !slices.Equal(base, want) {
		t.Errorf("%v, %v", base, err)
	}
	for _, name := range []string{"gone", "needy", "loops"} {
		if got, err := modules(dir, []string{name}); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "text.ko"), []byte("no ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := modules(dir, []string{"text"}); err == nil {
		t.Errorf("%v", got)
	}
}

func TestLibraries(t *testing.T) {
	t.Parallel()
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Skip("no /bin/sh here")
	}
	libs, err := libraries("", sh)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(libs, func(s string) bool { return strings.Contains(s, "libc.so") }) {
		t.Errorf("the shell needs only %v", libs)
	}
	if _, err := libraries("", "/etc/passwd"); err == nil {
		t.Error("a text has libraries")
	}
}

// Without the programs that it needs nothing is run, and the error says so.
func TestFetchDebian_unavailable(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := FetchDebian(context.Background(), t.TempDir()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestGuest_arguments(t *testing.T) {
	t.Parallel()
	args := strings.Join(Guest{Disks: []string{"/a,b"}, Args: []string{"-qmp", "unix:x"}}.arguments("/initrd", "abc"), " ")
	for _, want := range []string{"-no-reboot", "vmtest.token=abc", "file=/a,,b", "-m 768", "-initrd /initrd", "-qmp unix:x"} {
		if !strings.Contains(args, want) {
			t.Errorf("no %q in %s", want, args)
		}
	}
}

func TestGuest_virtualTime(t *testing.T) {
	t.Parallel()
	with, without := Guest{VirtualTime: true}.arguments("i", "t"), Guest{}.arguments("i", "t")
	if !slices.Contains(with, "-icount") || slices.Contains(without, "-icount") {
		t.Errorf("%v, %v", with, without)
	}
}
