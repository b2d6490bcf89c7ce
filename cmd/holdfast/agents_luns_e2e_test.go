package main

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// Who names what would be destroyed, exactly, may destroy it; everybody else is refused, and nothing changes.
func TestBadInput_foreignLUN(t *testing.T) {
	testutil.NeedTool(t, "mkfs.ext4", "lvm", "losetup")
	for _, tt := range []struct {
		name string
		make func(t *testing.T, lun string) (name string)
	}{
		{"ext4", func(t *testing.T, lun string) string {
			testutil.Run(t, "mkfs.ext4", "-q", "-L", "payroll", lun)
			return "payroll"
		}},
		{"volume group", func(t *testing.T, lun string) string {
			j := &judges{lun: lun, device: testutil.LoopDevice(t, lun, 512), quiet: true}
			if out, err := j.lvm(deadline(t, testutil.DefaultDeadline), "vgcreate", "--yes", "other_vg", j.device); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			if err := j.detach(); err != nil {
				t.Fatal(err)
			}
			return "other_vg"
		}},
		{"another pool's domain", func(t *testing.T, lun string) string {
			a := startAgent(t, agentConfig(t, "h1", lun))
			name := mustMember(t, a, "init", "--pool", "other", "--profile", "dev", lun).Domain
			a.stop(t)
			return name
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lun := newLUN(t, 12*gib)
			name := tt.make(t, lun)
			a := startAgent(t, agentConfig(t, "h1", lun))
			before := dataHash(t, lun)
			for _, force := range []string{"", "wrong", strings.ToUpper(name), name + "x", "ext4 payroll"} {
				e := refusal(t, a, api.CodeForeignSignature, "init", "--pool", "p", "--profile", "dev", "--force="+force, lun)
				if !strings.Contains(e.Message+e.NextStep, name) || !strings.Contains(e.Message, lun) {
					t.Errorf("the refusal names not both %s and %s: %s; %s", lun, name, e.Message, e.NextStep)
				}
			}
			refusal(t, a, api.CodeNotMember, "volume", "list")
			if dataHash(t, lun) != before {
				t.Error("the refused LUN was changed")
			}
			mustMember(t, a, "init", "--pool", "p", "--profile", "dev", "--force="+name, lun)
			awaitSPM(t, a, testutil.DefaultDeadline)
			mustCreate(t, a.Client, "new", 1)
			var check api.Check
			mustJSON(t, a, &check, "domain", "check", "master")
			judgeVG(t, lun, check.Domain)
		})
	}
}

// LUNs that cannot be used are refused before anything is written to them.
func TestBadInput_unusableLUN(t *testing.T) {
	dir := shortDir(t)
	small, other := newLUN(t, 9*gib), newLUN(t, 12*gib)
	ok := newLUN(t, 12*gib)
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := agentConfig(t, "h1", small, ok, dir+"/*", "/dev/loop*", "/dev/null", "nbd://127.0.0.1:1/x")
	a := startAgent(t, conf)
	for _, tt := range []struct{ name, lun, code, says string }{
		{"too small", small, api.CodeDevice, "9663676416"},
		{"missing", dir + "/none", api.CodeDevice, "none"},
		{"a directory", dir, api.CodeInvalid, dir},
		{"a text file", dir + "/text", api.CodeDevice, "text"},
		{"no disk", "/dev/null", api.CodeDevice, "/dev/null"},
		{"nobody listens", "nbd://127.0.0.1:1/x", api.CodeDevice, "127.0.0.1:1"},
		{"not in the allow-list", other, api.CodeInvalid, "allow-list"},
		{"relative", "lun.img", api.CodeInvalid, "absolute"},
		{"twice", ok + " " + ok, api.CodeInvalid, "twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := refusal(t, a, tt.code, append([]string{"init", "--pool", "p", "--profile", "dev"}, strings.Fields(tt.lun)...)...)
			if !strings.Contains(e.Message+e.NextStep, tt.says) {
				t.Errorf("the refusal does not speak of %s: %s; %s", tt.says, e.Message, e.NextStep)
			}
		})
	}
	t.Run("read-only", func(t *testing.T) {
		testutil.NeedTool(t, "losetup")
		j := &judges{lun: ok}
		if err := j.attach(deadline(t, testutil.DefaultDeadline)); err != nil { // read-only, as judges are
			t.Skip(err)
		}
		defer j.detach()
		e := refusal(t, a, api.CodeDevice, "init", "--pool", "p", "--profile", "dev", j.device)
		if !strings.Contains(e.Message, "read-only") {
			t.Error(e.Message)
		}
	})
	t.Run("sectors of 4096 bytes", func(t *testing.T) {
		e := refusal(t, a, api.CodeInvalid, "init", "--pool", "p", "--profile", "dev", testutil.LoopDevice(t, ok, 4096))
		if !strings.Contains(e.Message, "4096") {
			t.Error(e.Message)
		}
	})
	if dataHash(t, ok) != dataHash(t, newLUN(t, 12*gib)) {
		t.Error("a refused LUN was written to")
	}
	mustMember(t, a, "init", "--pool", "p", "--profile", "dev", ok)
}

// dataHash is a checksum of a sparse file that reads its data only.
func dataHash(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const seekData, seekHole = 3, 4
	h := sha256.New()
	for off := int64(0); ; {
		begin, err := f.Seek(off, seekData)
		if err != nil {
			return [sha256.Size]byte(h.Sum(nil)) // no more data
		}
		if off, err = f.Seek(begin, seekHole); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(h, io.NewSectionReader(f, begin, off-begin)); err != nil {
			t.Fatal(err)
		}
	}
}
