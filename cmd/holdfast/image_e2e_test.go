package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// An image gets layers while nobody uses it; its leaf is what a name means then, on any host, before and after a takeover. qemu-img
// follows the chain.
func TestE2E_imageSnapshot(t *testing.T) {
	p := startPool(t)
	base := mustCreate(t, p.client(0), "web", 1)[0]
	var snap api.VolumeCreated
	status, stdout, stderr := cli(t, "image", "snapshot", "web-0", "--idempotency-key", "one", "--address", p.file().Hosts[1].HTTP, "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &snap); status != exitOK || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, stderr)
	}
	if snap.Parent != base.ID || snap.Image != base.Image || snap.Size != base.Size || snap.Name != "web-0" || snap.Format != api.FormatQCOW2 {
		t.Errorf("%+v of %+v", snap, base)
	}
	again, err := p.client(2).SnapshotImage(deadline(t, 30*time.Second), base.Image, api.ImageSnapshot{}, "one")
	if err != nil || again.ID != snap.ID {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	spm := mustSPM(t, p)
	if _, err := p.kill(spm.Host); err != nil {
		t.Fatal(err)
	}
	c := p.client(p.other(spm.Host))
	top, err := c.SnapshotImage(deadline(t, 80*time.Second), "web-0", api.ImageSnapshot{Name: "after"}, "two")
	if asError(err).Code == api.CodeOutcomeUnknown {
		top, err = c.SnapshotImage(deadline(t, 80*time.Second), "web-0", api.ImageSnapshot{Name: "after"}, "two")
	}
	if err != nil || top.Parent != snap.ID || top.Name != "after" {
		t.Fatalf("after a takeover: %+v, %v", top, err)
	}
	if err := p.awaitUp(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	img, _, err := c.Image(deadline(t, 20*time.Second), "web-0", client.Read{Consistent: true})
	if err != nil || img.Leaf != top.ID || len(img.Volumes) != 3 || img.Volumes[2].ID != base.ID || img.Volumes[2].Type != "internal" || img.Problem != "" {
		t.Errorf("%+v, %v", img, err)
	}
	if v, _, err := c.Volume(deadline(t, 20*time.Second), "web-0", client.Read{Consistent: true}); asError(err).Code != api.CodeConflict && err == nil && v.ID == base.ID {
		t.Errorf("the name means the old layer: %+v", v)
	}
	_, err = c.SnapshotImage(deadline(t, 30*time.Second), "nothing", api.ImageSnapshot{}, "")
	if asError(err).Code != api.CodeNotFound {
		t.Errorf("no such image: %v", err)
	}
	judgeLUN(t, p)
	judgeChain(t, p, img)
}

// volumesOnLUN is what lvm2 says to lie on the LUN.
func volumesOnLUN(t *testing.T, p *devProcess) map[string]lv {
	t.Helper()
	ctx := deadline(t, 60*time.Second)
	j := &judges{lun: p.file().LUN, vg: p.file().Domain, quiet: true}
	if err := j.attach(ctx); err != nil {
		t.Fatal(err)
	}
	lvs, err := j.lvs(ctx)
	if err := errors.Join(err, j.detach()); err != nil {
		t.Fatal(err)
	}
	return lvs
}

// judgeChain lets qemu-img follow the backing names of an image, in copies that are called as the volumes are.
func judgeChain(t *testing.T, p *devProcess, img api.Image) {
	t.Helper()
	testutil.NeedTool(t, "qemu-img", "lvm", "losetup")
	lvs := volumesOnLUN(t, p)
	lun, err := os.Open(p.file().LUN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lun.Close() }()
	dir := t.TempDir()
	for _, v := range img.Volumes {
		head := make([]byte, 4<<20) // a new layer has nothing behind its tables
		if _, err := lun.ReadAt(head, lvs[v.ID].Offset); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, v.ID), head, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := testutil.TryRun(t, "qemu-img", "info", "--backing-chain", "--output=json", filepath.Join(dir, img.Leaf))
	var chain []struct {
		Filename string `json:"filename"`
		Size     int64  `json:"virtual-size"`
		Backing  string `json:"backing-filename"`
	}
	if err := errors.Join(err, json.Unmarshal([]byte(out), &chain)); err != nil || len(chain) != len(img.Volumes) {
		t.Fatalf("%v: %s", err, out)
	}
	for i, v := range img.Volumes {
		if l := chain[i]; l.Filename != filepath.Join(dir, v.ID) || l.Size != v.Size || l.Backing != v.Parent {
			t.Errorf("layer %d: qemu-img sees %+v, the pool %+v", i, l, v)
		}
	}
}
