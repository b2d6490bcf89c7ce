package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// nbdServer serves a file over TCP, and can be taken away and given back.
type nbdServer struct {
	file string
	port int
	tool string
	cmd  *exec.Cmd
}

func serveNBD(t *testing.T, tool, file string) *nbdServer {
	t.Helper()
	testutil.NeedTool(t, tool, "qemu-img")
	s := &nbdServer{file: file, port: pickPort(t), tool: tool}
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *nbdServer) uri() string { return "nbd://" + loopback(s.port) + "/lun" }

func (s *nbdServer) start(t *testing.T) {
	t.Helper()
	port := strconv.Itoa(s.port)
	switch s.tool {
	case "nbdkit":
		s.cmd = exec.Command("nbdkit", "--foreground", "--ipaddr", "127.0.0.1", "--port", port, "--exportname", "lun", "file", s.file)
	default:
		s.cmd = exec.Command("qemu-nbd", "--persistent", "--shared=0", "--bind=127.0.0.1", "--port="+port, "--export-name=lun",
			"--format=raw", "--cache=none", "--aio=threads", "--discard=unmap", s.file)
	}
	log, err := os.OpenFile(filepath.Join(filepath.Dir(s.file), "nbd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitPort(t, s.port)
}

// stop kills the server: every connection breaks, and new ones are refused.
func (s *nbdServer) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
	s.cmd = nil
}

// A LUN behind a network: the agent of the SPM dies and the role moves with all volumes; the server dies and the hosts
// stay, without an SPM, until it comes back.
func TestNBD_killAndVanish(t *testing.T) {
	for _, tool := range []string{"nbdkit", "qemu-nbd"} {
		t.Run(tool, func(t *testing.T) {
			srv := serveNBD(t, tool, newLUN(t, 32*gib))
			p := newAgentPool(t, 3, srv.uri(), nil)
			t.Run("agent killed", func(t *testing.T) { killOverNBD(t, p) })
			t.Run("judges", func(t *testing.T) { judgeFile(t, p, srv.file) })
			if tool == "nbdkit" {
				t.Run("server gone", func(t *testing.T) { vanish(t, p, srv) })
				t.Run("judges after that", func(t *testing.T) { judgeFile(t, p, srv.file) })
			}
		})
	}
}

func killOverNBD(t *testing.T, p *agentPool) {
	spm := p.awaitSPM(t)
	mustCreate(t, p.other(spm.Host).Client, "before", 5)
	victim := p.agent(t, spm.Host)
	victim.kill(t)
	other := p.other(spm.Host)
	v, err := other.CreateVolume(deadline(t, 60*time.Second), api.VolumeCreate{Name: "after", Size: gib, Format: api.FormatQCOW2}, "")
	if err != nil || v.Epoch <= spm.Epoch {
		t.Fatalf("after the kill: %+v, %v; the old epoch was %d", v, err, spm.Epoch)
	}
	if now := awaitSPM(t, other, 10*time.Second); now.Host == spm.Host {
		t.Errorf("%s is SPM although its agent is dead", now.Host)
	}
	mustList(t, other.Client, 6)
	victim.again(t)
	awaitHosts(t, other.Client, 3)
}

// judgeFile lets domain check, lvm and qemu-img look at what is in the file behind a server.
func judgeFile(t *testing.T, p *agentPool, file string) {
	ctx := deadline(t, 60*time.Second)
	dom, _, err := p.agents[0].Domain(ctx, "master", client.Read{})
	if err != nil {
		t.Fatal(err)
	}
	var check api.Check
	mustJSON(t, p.agents[0], &check, "domain", "check", "master")
	testutil.NeedTool(t, "lvm", "qemu-img", "losetup")
	j := &judges{lun: file, vg: dom.ID}
	if err := j.attach(ctx); err != nil {
		t.Fatal(err)
	}
	defer j.detach()
	if out, err := j.lvm(ctx, "vgck", dom.ID); err != nil {
		t.Errorf("vgck: %v %s", err, out)
	}
	lvs, err := j.lvs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	vols, _, err := p.agents[0].Volumes(ctx, client.VolumeFilter{}, client.Read{})
	if err != nil || len(vols) == 0 {
		t.Fatalf("%d volumes, %v", len(vols), err)
	}
	for _, v := range vols {
		l, ok := lvs[v.ID]
		if !ok {
			t.Errorf("lvm knows nothing of volume %s", v.Name)
		} else if out, err := j.qemuImg(ctx, "check", l); err != nil {
			t.Errorf("qemu-img check of %s: %v %s", v.Name, err, out)
		}
	}
}

// vanish takes the LUN away for longer than leases live, and gives it back.
func vanish(t *testing.T, p *agentPool, srv *nbdServer) {
	spm := p.awaitSPM(t)
	vols, _, err := p.agents[0].Volumes(t.Context(), client.VolumeFilter{}, client.Read{})
	if err != nil {
		t.Fatal(err)
	}
	srv.stop()
	p.awaitNoSPM(t)
	for _, a := range p.agents {
		a.alive(t)
		mustList(t, a.Client, len(vols)) // the mirror goes on answering
	}
	status, stdout, stderr := cli(t, "--address", socket(p.agents[0]), "volume", "create", "--name", "nowhere", "--size", "1GiB", "--timeout", "5s")
	if status == exitOK || stderr == "" {
		t.Errorf("a create without the LUN: status %d, %s %s", status, stdout, stderr)
	}
	var st api.Status
	mustJSON(t, p.agents[0], &st, "status")
	if len(st.Warnings) == 0 {
		t.Errorf("status has no warning while the LUN is gone: %+v", st)
	}
	srv.start(t)
	back := awaitSPM(t, p.agents[0], 90*time.Second)
	if back.Epoch <= spm.Epoch {
		t.Errorf("the epoch is %d after the LUN came back, was %d", back.Epoch, spm.Epoch)
	}
	if _, err := p.agents[1].CreateVolume(deadline(t, 60*time.Second), api.VolumeCreate{Name: "returned", Size: gib}, ""); err != nil {
		t.Errorf("after the LUN came back: %v", err)
	}
	awaitHosts(t, p.agents[0].Client, 3)
}

// awaitNoSPM waits until no host says that the role is served.
func (p *agentPool) awaitNoSPM(t *testing.T) {
	t.Helper()
	ctx := deadline(t, 60*time.Second)
	err := poll(ctx, "the role is given up", func() error {
		for _, a := range p.agents {
			spm, _, err := a.SPM(ctx, client.Read{})
			if err != nil {
				return err
			}
			if spm.State == api.SPMServing {
				return errors.New(spm.Host + " serves")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
