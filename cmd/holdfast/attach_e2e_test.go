package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/internal/procs"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// qemuIO is a qemu-io that stays connected, as a guest would.
type qemuIO struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startQemuIO(t *testing.T, uri, format string) *qemuIO {
	t.Helper()
	q := &qemuIO{t: t, cmd: testutil.Command(t, "qemu-io", "-f", format, uri)}
	var err error
	if q.in, err = q.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := q.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	q.cmd.Stderr = q.cmd.Stdout
	q.out = bufio.NewReader(out)
	if err := q.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.cmd.Process.Kill(); _ = q.cmd.Wait() })
	return q
}

// do runs one command and wants it to say that it did it.
func (q *qemuIO) do(command string) {
	q.t.Helper()
	if _, err := fmt.Fprintln(q.in, command); err != nil {
		q.t.Fatal(err)
	}
	for {
		line, err := q.out.ReadString('\n')
		switch {
		case err != nil:
			q.t.Fatalf("%s: qemu-io ended: %v", command, err)
		case strings.Contains(line, "failed") || strings.Contains(line, "rror"):
			q.t.Fatalf("%s: %s", command, line)
		case strings.Contains(line, "wrote ") || strings.Contains(line, "read "):
			if _, err := q.out.ReadString('\n'); err != nil { // how fast it was
				q.t.Fatal(err)
			}
			return
		}
	}
}

// end flushes and leaves.
func (q *qemuIO) end() {
	q.t.Helper()
	_ = q.in.Close()
	_, _ = io.Copy(io.Discard, q.out)
	if err := q.cmd.Wait(); err != nil {
		q.t.Errorf("qemu-io: %v", err)
	}
}

// serveChain lets QEMU open a chain by the arguments that the answer has, and offers the disk to others.
func serveChain(t *testing.T, a api.Attachment) (uri string, stop func()) {
	t.Helper()
	testutil.NeedTool(t, "qemu-storage-daemon")
	sock := filepath.Join(shortDir(t), "disk.nbd")
	args := []string{"qemu-storage-daemon", "--nbd-server", "addr.type=unix,addr.path=" + sock}
	var last string
	for _, node := range a.BlockDev {
		b, err := json.Marshal(node)
		if err != nil {
			t.Fatal(err)
		}
		args, last = append(args, "--blockdev", string(b)), fmt.Sprint(node["node-name"])
	}
	args = append(args, "--export", "type=nbd,id=e,name=disk,writable=on,node-name="+last)
	cmd := testutil.Command(t, args...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	end := func(s os.Signal) {
		once.Do(func() {
			_ = cmd.Process.Signal(s)
			if err := cmd.Wait(); err != nil && s == sigTerm || said.Len() > 0 {
				t.Errorf("qemu-storage-daemon: %v: %s", err, said.String())
			}
		})
	}
	t.Cleanup(func() { end(sigKill) })
	testutil.Retry(t, 10*time.Second, func() error { _, err := os.Stat(sock); return err })
	return "nbd+unix:///disk?socket=" + sock, func() { end(sigTerm) }
}

func mustAttach(t *testing.T, p *devProcess, host string, req api.VolumeAttach, ref string) api.Attachment {
	t.Helper()
	a, err := p.client(0).AttachVolume(deadline(t, 40*time.Second), ref, host, req)
	if err != nil {
		t.Fatal(err)
	}
	if a.Host != host || a.State != api.AttachmentAttached || a.Problem != "" || a.URI == "" {
		t.Fatalf("attached: %+v", a)
	}
	return a
}

// A volume is attached for writing on one host at a time; its client goes on while the agent is killed, and while it is restarted
// in order; then another host has it, with all the data.
func TestE2E_attach(t *testing.T) {
	testutil.NeedTool(t, "qemu-io", "qemu-img")
	p := startPool(t)
	spm := mustSPM(t, p)
	host := p.file().Hosts[p.other(spm.Host)].Name
	v := mustCreate(t, p.client(0), "disk", 1)[0]
	a := mustAttach(t, p, host, api.VolumeAttach{}, v.ID)
	if again := mustAttach(t, p, host, api.VolumeAttach{}, v.Name); again.URI != a.URI || !again.Since.Equal(a.Since) {
		t.Errorf("attached again: %+v", again)
	}
	_, err := p.client(0).AttachVolume(deadline(t, 40*time.Second), v.ID, spm.Host, api.VolumeAttach{})
	wantHolder(t, err, host)
	_, err = p.client(0).DeleteVolume(deadline(t, 40*time.Second), v.ID)
	wantHolder(t, err, host)

	q := startQemuIO(t, a.URI, "qcow2")
	q.do("write -P 0x11 0 64M")
	keeper := p.file().Hosts[p.index(host)].KeeperPID
	for i, how := range []syscall.Signal{sigKill, sigTerm} {
		agent := p.file().Hosts[p.index(host)].PID
		signalPID(t, agent, how)
		for j := range 10 { // the agent is away for most of it
			q.do(fmt.Sprintf("write -P 0x22 %dM 1M", 64+10*i+j))
			time.Sleep(50 * time.Millisecond) // a guest that writes now and then
		}
		awaitAgent(t, p, host, agent)
		awaitAttached(t, p, host, v.ID)
		if now := p.file().Hosts[p.index(host)].KeeperPID; now != keeper {
			t.Errorf("keeper %d after signal %v for the agent, it was %d", now, how, keeper)
		}
	}
	q.do("read -P 0x11 0 64M")
	_, err = p.client(0).DetachVolume(deadline(t, 40*time.Second), v.ID, host, api.VolumeDetach{})
	wantCode(t, err, api.CodeBusy)
	q.do("write -P 0x33 200M 8M")
	q.end()

	if _, err := p.client(0).DetachVolume(deadline(t, 40*time.Second), v.ID, host, api.VolumeDetach{}); err != nil {
		t.Fatal(err)
	}
	_, err = p.client(0).DetachVolume(deadline(t, 40*time.Second), v.ID, host, api.VolumeDetach{})
	wantCode(t, err, api.CodeConflict)
	verifyElsewhere(t, p, spm.Host, v.ID)
	judgeLUN(t, p)
}

func signalPID(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	h, err := procs.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// awaitAgent waits until a host has another agent than before.
func awaitAgent(t *testing.T, p *devProcess, host string, before int) {
	t.Helper()
	if err := poll(deadline(t, 60*time.Second), "the agent was started again", func() error {
		if now := p.file().Hosts[p.index(host)].PID; now == before || now == 0 {
			return fmt.Errorf("pid %d", now)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// awaitAttached waits until a host says that it has the volume in its hands.
func awaitAttached(t *testing.T, p *devProcess, host, volume string) {
	t.Helper()
	ctx := deadline(t, 40*time.Second)
	if err := poll(ctx, "the volume is attached on "+host, func() error {
		l, err := p.client(p.index(host)).Attachments(ctx, host)
		if err != nil {
			return err
		}
		for _, a := range l.Attachments {
			if a.Volume == volume && a.Problem == "" && a.State == api.AttachmentAttached {
				return nil
			}
		}
		return fmt.Errorf("%+v", l)
	}); err != nil {
		t.Fatal(err)
	}
}

// verifyElsewhere attaches the volume on another host and reads it with the real programs.
func verifyElsewhere(t *testing.T, p *devProcess, host, volume string) {
	t.Helper()
	a := mustAttach(t, p, host, api.VolumeAttach{}, volume)
	q := startQemuIO(t, a.URI, "qcow2")
	q.do("read -P 0x11 0 64M")
	q.do("read -P 0x22 64M 20M")
	q.do("read -P 0x33 200M 8M")
	q.do("read -P 0 208M 8M")
	q.end()
	testutil.Run(t, "qemu-img", "check", a.URI)
	if _, err := p.client(0).DetachVolume(deadline(t, 40*time.Second), volume, host, api.VolumeDetach{}); err != nil {
		t.Error(err)
	}
}

// Two hosts read a volume's base at the same time through two layers, and each writes its own; the keeper's death takes no data.
func TestE2E_attachChain(t *testing.T) {
	testutil.NeedTool(t, "qemu-io", "qemu-img")
	p := startPool(t)
	ctx := deadline(t, 4*time.Minute)
	hosts := p.file().Hosts
	base := mustCreate(t, p.client(0), "base", 1)[0]
	a := mustAttach(t, p, hosts[0].Name, api.VolumeAttach{}, base.ID)
	testutil.Run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x11 0 4M", a.URI)
	if _, err := p.client(0).DetachVolume(ctx, base.ID, hosts[0].Name, api.VolumeDetach{}); err != nil {
		t.Fatal(err)
	}
	top, err := p.client(0).CreateVolume(ctx, api.VolumeCreate{Name: "top", Size: gib, Parent: base.ID, Image: base.Image}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.client(0).AttachVolume(ctx, base.ID, hosts[0].Name, api.VolumeAttach{})
	wantCode(t, err, api.CodeConflict) // it is no leaf any more
	w := mustAttach(t, p, hosts[0].Name, api.VolumeAttach{}, top.ID)
	if len(w.Chain) != 2 || w.Chain[1].Volume != base.ID || !w.Chain[1].ReadOnly || w.Chain[1].URI == "" {
		t.Fatalf("chain: %+v", w.Chain)
	}
	r := mustAttach(t, p, hosts[1].Name, api.VolumeAttach{ReadOnly: true}, base.ID)
	testutil.Run(t, "qemu-io", "-r", "-f", "qcow2", "-c", "read -P 0x11 0 4M", r.URI)
	disk, stop := serveChain(t, w)
	q := startQemuIO(t, disk, "raw")
	q.do("read -P 0x11 0 4M")
	q.do("write -P 0x44 1M 1M")
	if out, err := testutil.TryRun(t, "qemu-io", "-f", "raw", "-c", "write 0 64k", r.URI); err == nil {
		t.Errorf("a write to the base went through: %s", out)
	}

	signalPID(t, hosts[0].KeeperPID, sigKill)
	if err := poll(ctx, "there is a new keeper", func() error {
		if p.file().Hosts[0].KeeperPID == hosts[0].KeeperPID {
			return errors.New("the same")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// The exports are ended and made again meanwhile; who is connected waits for them.
	q.do("write -P 0x55 2M 1M")
	q.do("read -P 0x44 1M 1M")
	q.do("read -P 0x11 3M 1M")
	q.end()
	stop()
	for i, v := range []string{top.ID, base.ID} {
		if _, err := p.client(0).DetachVolume(ctx, v, hosts[i].Name, api.VolumeDetach{}); err != nil {
			t.Error(err)
		}
	}
}

// A thin volume that is written as fast as the machine can, with eight writes under way at any time, grows by itself with the default
// chunk and threshold, and no write ever waits for space.
func TestE2E_attachGrows(t *testing.T) {
	testutil.NeedTool(t, "qemu-img")
	p := startPool(t)
	ctx := deadline(t, 4*time.Minute)
	spm := mustSPM(t, p)
	host := p.file().Hosts[p.other(spm.Host)].Name
	v, err := p.client(0).CreateVolume(ctx, api.VolumeCreate{Name: "thin", Size: 8 * gib}, "")
	if err != nil {
		t.Fatal(err)
	}
	a := mustAttach(t, p, host, api.VolumeAttach{}, v.ID)
	// Zeroes that are written need no space in the container; these do.
	out := testutil.Run(t, "qemu-img", "bench", "-f", "qcow2", "-w", "-t", "none", "-s", "1M", "-d", "8", "-c", "3600", "--pattern=85", a.URI)
	t.Log(strings.Join(strings.Fields(out), " "))
	var l api.Attachments
	if err := poll(ctx, "the volume has grown", func() error {
		if l, err = p.client(p.index(host)).Attachments(ctx, host); err != nil {
			return err
		}
		if a := l.Attachments[0]; a.Allocated < 5*gib || a.WaitingFor != "" {
			return fmt.Errorf("%+v", a)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if a := l.Attachments[0]; a.WritesWaited != 0 || a.WritesRefused != 0 {
		t.Errorf("%d writes waited for space, %d of them were refused", a.WritesWaited, a.WritesRefused)
	}
	testutil.Run(t, "qemu-img", "check", a.URI)
	for line := range strings.Lines(metricsOf(t, p.file().Hosts[p.index(host)].HTTP)) {
		if strings.HasPrefix(line, "holdfast_attached_") && !strings.Contains(line, "_bucket") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if _, err := p.client(0).DetachVolume(ctx, v.ID, host, api.VolumeDetach{}); err != nil {
		t.Error(err)
	}
	judgeLUN(t, p)
}

func metricsOf(t *testing.T, base string) string {
	t.Helper()
	text, err := scrape(deadline(t, 10*time.Second), base)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// scrape reads the metrics of a host.
func scrape(ctx context.Context, base string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
