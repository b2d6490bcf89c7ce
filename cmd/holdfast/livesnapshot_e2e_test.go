package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// liveQEMU is a QEMU without a machine: it has a chain open as an attachment says, takes QMP, and serves the disk.
type liveQEMU struct {
	t    *testing.T
	qmp  string
	disk string
	stop func()
}

// startLiveQEMU opens the chain, the base first.
func startLiveQEMU(t *testing.T, dir string, a api.Attachment) *liveQEMU {
	t.Helper()
	testutil.NeedTool(t, "qemu-storage-daemon", "qemu-io")
	sock := filepath.Join(dir, "disk.nbd")
	q := &liveQEMU{t: t, qmp: filepath.Join(dir, "qmp"), disk: "nbd+unix:///disk?socket=" + sock}
	args := []string{"qemu-storage-daemon", "--chardev", "socket,id=c,server=on,wait=off,path=" + q.qmp, "--monitor", "chardev=c",
		"--nbd-server", "addr.type=unix,addr.path=" + sock}
	var last string
	for _, node := range a.BlockDev {
		b, err := json.Marshal(node)
		if err != nil {
			t.Fatal(err)
		}
		args, last = append(args, "--blockdev", string(b)), fmt.Sprint(node["node-name"])
	}
	export := "type=nbd,id=e,name=disk,node-name=" + last
	if !a.ReadOnly {
		export += ",writable=on"
	}
	args = append(args, "--export", export)
	cmd := exec.Command(args[0], args[1:]...) // not bounded as a tool is: it is there for the whole test
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	q.stop = func() {
		if ended {
			return
		}
		ended = true
		_ = cmd.Process.Signal(sigTerm)
		if err := cmd.Wait(); (err != nil || said.Len() > 0) && !t.Failed() {
			t.Errorf("qemu-storage-daemon: %v: %s", err, said.String())
		}
	}
	t.Cleanup(q.stop)
	testutil.Retry(t, 60*time.Second, func() error { _, err := os.Stat(sock); return err })
	return q
}

func (q *liveQEMU) do(commands ...string) {
	q.t.Helper()
	for _, c := range commands {
		args := []string{"qemu-io", "-f", "raw", "-c", c, q.disk}
		if strings.HasPrefix(c, "read ") {
			args = slices.Insert(args, 1, "-r")
		}
		if out := testutil.Run(q.t, args...); strings.Contains(out, "verification failed") {
			q.t.Errorf("%s: %s", c, out)
		}
	}
}

// attachedOn is what a host says of a volume that it has; an error says what is not as it should be.
func attachedOn(ctx context.Context, p *devProcess, host, volume string) (api.Attachment, error) {
	l, err := p.client(p.index(host)).Attachments(ctx, host)
	if err != nil {
		return api.Attachment{}, err
	}
	for _, a := range l.Attachments {
		if a.Volume == volume && a.Problem == "" && a.State == api.AttachmentAttached {
			return a, nil
		}
	}
	return api.Attachment{}, fmt.Errorf("attached on %s: %+v", host, l.Attachments)
}

// awaitQMP waits until the host talks to the QEMU of a volume.
func awaitQMP(t *testing.T, p *devProcess, host, volume string) api.Attachment {
	t.Helper()
	var a api.Attachment
	ctx := deadline(t, 2*time.Minute)
	if err := poll(ctx, "the host talks to QEMU", func() (err error) {
		if a, err = attachedOn(ctx, p, host, volume); err == nil && !a.QMPConnected {
			err = errors.New(a.QMPProblem)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return a
}

// contentOf is what lies in the space of a volume on the LUN, which has it in one piece.
func contentOf(t *testing.T, p *devProcess, volume string) string {
	t.Helper()
	lvs := volumesOnLUN(t, p)
	if lvs[volume].Size <= 0 || lvs[volume].Offset <= 0 {
		t.Fatalf("volume %s: %+v", volume, lvs[volume])
	}
	lun, err := os.Open(p.file().LUN)
	if err != nil {
		t.Fatal(err)
	}
	defer lun.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(lun, lvs[volume].Offset, min(lvs[volume].Size, 64<<20))); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// chainIs wants the layers of the image, the leaf first.
func chainIs(t *testing.T, p *devProcess, image string, want ...string) api.Image {
	t.Helper()
	var img api.Image
	ctx := deadline(t, time.Minute)
	if err := poll(ctx, "the image has the chain", func() error {
		status, stdout, stderr := cli(t, "image", "show", image, "--consistent", "--address", p.file().Hosts[0].HTTP, "-o", "json")
		if status != exitOK {
			return fmt.Errorf("status %d: %s", status, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), &img); err != nil {
			return err
		}
		var got []string
		for _, v := range img.Volumes {
			got = append(got, v.ID)
		}
		if img.Leaf != want[0] || img.Problem != "" || strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("leaf %s, layers %v, problem %q; want %v", img.Leaf, got, img.Problem, want)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return img
}

// TestE2E_liveSnapshot: a disk that QEMU writes gets two layers while it does, the second with the agent killed in between. Each old leaf
// keeps what it held and can be read on another host; the whole can be read there afterwards.
func TestE2E_liveSnapshot(t *testing.T) {
	testutil.NeedTool(t, "qemu-img", "qemu-io", "qemu-storage-daemon", "lvm", "losetup")
	p := startPool(t)
	spm := mustSPM(t, p)
	host := p.file().Hosts[p.other(spm.Host)].Name
	base := mustCreate(t, p.client(0), "live", 1)[0]
	dir := shortDir(t)
	a := mustAttach(t, p, host, api.VolumeAttach{QMP: filepath.Join(dir, "qmp")}, base.ID)
	q := startLiveQEMU(t, dir, a)
	q.do("write -P 0x11 0 4M", "flush")
	awaitQMP(t, p, host, base.ID)

	first := snapshotByCLI(t, p, base.Name)
	chainIs(t, p, base.Image, first, base.ID)
	before := contentOf(t, p, base.ID)
	q.do("write -P 0x22 1M 2M", "flush", "read -P 0x11 0 1M", "read -P 0x22 1M 2M", "read -P 0x11 3M 1M")
	awaitQMP(t, p, host, first)

	second := snapshotKilled(t, p, host, base.Image, first)
	chainIs(t, p, base.Image, second, first, base.ID)
	middle := contentOf(t, p, first)
	q.do("write -P 0x33 2M 2M", "write -P 0x44 10M 1M", "flush")
	whole := []string{"read -P 0x11 0 1M", "read -P 0x22 1M 1M", "read -P 0x33 2M 2M", "read -P 0 4M 6M", "read -P 0x44 10M 1M"}
	q.do(whole...)
	for volume, was := range map[string]string{base.ID: before, first: middle} {
		if contentOf(t, p, volume) != was {
			t.Errorf("volume %s was written after it got a layer", volume)
		}
	}
	// The leases of the old leaves are shared now: other hosts may read. That of the new one is not.
	r := mustAttach(t, p, spm.Host, api.VolumeAttach{ReadOnly: true}, first)
	readChain(t, r, "read -P 0x11 0 1M", "read -P 0x22 1M 2M", "read -P 0x11 3M 1M", "read -P 0 4M 8M")
	_, err := p.client(0).AttachVolume(deadline(t, 40*time.Second), second, spm.Host, api.VolumeAttach{})
	wantHolder(t, err, host)
	mustDetach(t, p, spm.Host, first)

	q.stop()
	mustDetach(t, p, host, second)
	again := mustAttach(t, p, spm.Host, api.VolumeAttach{}, second)
	checkLayers(t, again)
	readChain(t, again, whole...)
	mustDetach(t, p, spm.Host, second)
	img := chainIs(t, p, base.Image, second, first, base.ID)
	judgeLUN(t, p)
	judgeChain(t, p, img)
}

// snapshotByCLI makes a live snapshot as a person would.
func snapshotByCLI(t *testing.T, p *devProcess, image string) (leaf string) {
	t.Helper()
	status, stdout, stderr := cli(t, "image", "snapshot", image, "--address", p.file().Hosts[0].HTTP, "-o", "json")
	var a api.Attachment
	if err := json.Unmarshal([]byte(stdout), &a); status != exitOK || err != nil || len(a.Chain) < 2 || !a.Chain[1].ReadOnly {
		t.Fatalf("status %d, %v: %s%s", status, err, stdout, stderr)
	}
	return a.Volume
}

// snapshotKilled kills the agent while it makes a live snapshot, and waits until the next one is through with it. The SPM stands still
// until then, so that the snapshot has begun for sure, and is not through.
func snapshotKilled(t *testing.T, p *devProcess, host, image, old string) (leaf string) {
	t.Helper()
	h := p.file().Hosts[p.index(host)]
	type answer struct {
		a   api.Attachment
		err error
	}
	answers := make(chan answer, 1)
	ctx := deadline(t, 2*time.Minute)
	c := p.client(p.index(host)) // no other host may repeat it
	stopped := p.file().Hosts[p.index(mustSPM(t, p).Host)].PID
	signalPID(t, stopped, syscall.SIGSTOP)
	goesOn := sync.OnceFunc(func() { _ = syscall.Kill(stopped, syscall.SIGCONT) })
	defer goesOn()
	go func() {
		a, err := c.SnapshotVolume(ctx, old, host, api.VolumeSnapshot{}, "second")
		answers <- answer{a, err}
	}()
	if err := poll(ctx, "the snapshot is under way", func() error {
		select {
		case early := <-answers:
			t.Fatalf("answered without the SPM: %+v, %v", early.a, early.err)
		default:
		}
		return underWay(h.DataDir)
	}); err != nil {
		t.Fatal(err)
	}
	signalPID(t, h.PID, sigKill)
	goesOn()
	got := <-answers
	t.Logf("the answer over the agent's death: %s, %v", got.a.Volume, got.err)
	awaitAgent(t, p, host, h.PID)
	if err := poll(ctx, "the next agent has finished the snapshot", func() error {
		img, _, err := p.client(0).Image(ctx, image, client.Read{Consistent: true})
		if err != nil {
			return err
		}
		a, err := attachedOn(ctx, p, host, img.Leaf)
		if err == nil && (len(a.Chain) != 3 || !a.Chain[1].ReadOnly || !a.QMPConnected) {
			err = fmt.Errorf("%+v", a)
		}
		leaf = img.Leaf
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return leaf
}

// underWay looks for a pending snapshot in the host's records.
func underWay(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "attached", "*.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		var r struct {
			Snapshot *struct{ Key string } `json:"snapshot"`
		}
		if b, err := os.ReadFile(f); err == nil && json.Unmarshal(b, &r) == nil && r.Snapshot != nil {
			return nil
		}
	}
	return errors.New("no record has one")
}

// readChain lets a QEMU of its own read an attached chain.
func readChain(t *testing.T, a api.Attachment, commands ...string) {
	t.Helper()
	q := startLiveQEMU(t, shortDir(t), a)
	q.do(commands...)
	q.stop()
}

// checkLayers lets qemu-img look at each layer by itself.
func checkLayers(t *testing.T, a api.Attachment) {
	t.Helper()
	for _, node := range a.BlockDev {
		alone := map[string]any{"driver": "qcow2", "backing": nil, "read-only": true, "file": node["file"]}
		b, err := json.Marshal(alone)
		if err != nil {
			t.Fatal(err)
		}
		testutil.Run(t, "qemu-img", "check", "json:"+string(b))
	}
}
