package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// furtherLUN makes a LUN that every host of a dev pool may use.
func furtherLUN(t *testing.T, p *devProcess, name string, size int64) string {
	t.Helper()
	path := filepath.Join(p.dir, name+".img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// A domain that is full grows by a LUN while it is in use: the space is there at once, on every host, and the next SPM has it too. lvm2
// agrees, and so does our own check.
func TestE2E_domainExtend(t *testing.T) {
	p := startPool(t, "--lun-size", "12G")
	c := p.client(0)
	made := fillDomain(t, c, "first")
	lun := furtherLUN(t, p, "second", 12*gib)
	var out api.DomainExtended
	status, stdout, stderr := cli(t, "domain", "extend", "master", "--lun", lun, "--address", p.file().Hosts[1].HTTP, "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &out); status != exitOK || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, stderr)
	}
	if !out.Mirrored || len(out.LUNs) != 2 || out.LUNs[1] != lun || out.Free < 93*128<<20 {
		t.Errorf("%+v", out)
	}
	refusedExtensions(t, p, lun)
	made += fillDomain(t, c, "second")
	for i := range p.file().Hosts {
		d, _, err := p.client(i).Domain(deadline(t, 20*time.Second), "master", client.Read{After: out.Index - 1})
		if err != nil || !slices.Contains(d.LUNs, lun) {
			t.Errorf("host %d: %+v, %v", i, d, err)
		}
		if k, err := p.client(i).CheckDomain(deadline(t, 60*time.Second), "master"); err != nil || !k.Clean {
			t.Errorf("host %d: check %+v, %v", i, k, err)
		}
	}
	before := mustSPM(t, p)
	if _, err := p.kill(before.Host); err != nil {
		t.Fatal(err)
	}
	asker := p.client(p.other(before.Host))
	if _, err := asker.ExtendDomain(deadline(t, 80*time.Second), "master", api.DomainExtend{LUN: furtherLUN(t, p, "third", 12*gib)}); err != nil {
		e := asError(err) // the host that was killed may still count as up
		if e.Code != api.CodeDevice && e.Code != api.CodeOutcomeUnknown {
			t.Errorf("after a takeover: %v", err)
		}
	}
	if err := p.awaitUp(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	if d, _, err := asker.Domain(deadline(t, 20*time.Second), "master", client.Read{Consistent: true}); err != nil || len(d.LUNs) < 3 {
		if _, err := asker.ExtendDomain(deadline(t, 60*time.Second), "master", api.DomainExtend{LUN: filepath.Join(p.dir, "third.img")}); err != nil {
			t.Errorf("with all hosts up: %v", err)
		}
	}
	made += fillDomain(t, asker, "third")
	mustList(t, asker, made)
	judgeLUNs(t, p, "lun", "second", "third")
}

// fillDomain makes volumes of 2 GiB until the domain is full.
func fillDomain(t *testing.T, c *client.Client, prefix string) int {
	t.Helper()
	for n := 0; ; n++ {
		_, err := c.CreateVolume(deadline(t, 60*time.Second), api.VolumeCreate{Name: fmt.Sprintf("%s-%d", prefix, n), Size: 4 * gib, InitialSize: gib}, fmt.Sprint(prefix, n))
		if err == nil {
			continue
		}
		if asError(err).Code != api.CodeNoSpace || n < 4 {
			t.Fatalf("volume %d of %s: %v", n, prefix, err)
		}
		return n
	}
}

// refusedExtensions ask for what must not be done.
func refusedExtensions(t *testing.T, p *devProcess, member string) {
	t.Helper()
	used := furtherLUN(t, p, "used", 12*gib)
	f, err := os.OpenFile(used, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("XFSB\x00\x00\x10\x00")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for lun, code := range map[string]string{
		member: api.CodeConflict, p.file().LUN: api.CodeConflict, used: api.CodeForeignSignature, "/dev/null": api.CodeInvalid,
		furtherLUN(t, p, "tiny", gib/4): api.CodeDevice,
	} {
		_, err := p.client(2).ExtendDomain(deadline(t, 60*time.Second), "master", api.DomainExtend{LUN: lun})
		if e := asError(err); e.Code != code {
			t.Errorf("%s: %v, want %s", lun, err, code)
		}
	}
}

// judgeLUNs lets lvm2 look at all LUNs of a dev pool.
func judgeLUNs(t *testing.T, p *devProcess, names ...string) {
	t.Helper()
	testutil.NeedTool(t, "lvm", "losetup")
	var loops []string
	for _, n := range names {
		loops = append(loops, testutil.LoopDevice(t, filepath.Join(p.dir, n+".img"), 512))
	}
	j := &judges{device: "(" + strings.Join(loops, "|") + ")", vg: p.file().Domain}
	for _, args := range [][]string{{"vgck", j.vg}, {"pvs", "--noheadings", "-o", "pv_mda_used_count,pv_in_use,vg_name"}, {"lvs", j.vg}} {
		out, err := j.lvm(deadline(t, 60*time.Second), args[0], args[1:]...)
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		if args[0] != "pvs" {
			continue
		}
		var rows []string
		for line := range strings.Lines(out) {
			rows = append(rows, strings.Join(strings.Fields(line), " "))
		}
		slices.Sort(rows)
		if want := append(slices.Repeat([]string{"0 used " + j.vg}, len(names)-1), "2 used "+j.vg); !slices.Equal(rows, want) {
			t.Errorf("pvs: %q, want %q", rows, want)
		}
	}
}
