package main

import (
	"bytes"
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

// start serves the file, again.
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
	dom, _, err := p.agents[0].Domain(ctx, "master", client.Read{Consistent: true})
	if err != nil {
		t.Fatal(err)
	}
	var check api.Check
	if err := poll(ctx, "the agent has the mirror again", func() error {
		_, _, err := p.agents[0].Domain(ctx, "master", client.Read{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
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
	p.awaitSPM(t)
	vols, _, err := p.agents[0].Volumes(t.Context(), client.VolumeFilter{}, client.Read{})
	if err != nil {
		t.Fatal(err)
	}
	srv.stop()
	p.awaitLost(t)
	for _, a := range p.agents {
		a.alive(t)
		mustList(t, a.Client, len(vols)) // the mirror goes on answering
	}
	status, stdout, stderr := cli(t, "--address", socket(p.agents[0]), "volume", "create", "--name", "nowhere", "--size", "1GiB", "--timeout", "5s")
	if status == exitOK || stderr == "" {
		t.Errorf("a create without the LUN: status %d, %s %s", status, stdout, stderr)
	}
	srv.start(t)
	if _, err := p.agents[1].CreateVolume(deadline(t, 60*time.Second), api.VolumeCreate{Name: "returned", Size: gib}, ""); err != nil {
		t.Errorf("after the LUN came back: %v", err)
	}
	awaitHosts(t, p.agents[0].Client, 3)
	everyHostServes(t, p)
}

// everyHostServes moves the role to each host in turn: each must have its lockspace again.
func everyHostServes(t *testing.T, p *agentPool) {
	ctx := deadline(t, 60*time.Second)
	for _, a := range p.agents {
		err := poll(ctx, a.conf.Name+" is SPM", func() error {
			spm, err := p.agents[0].MoveSPM(ctx, api.SPMMove{To: a.conf.Name})
			if err == nil && (spm.Host != a.conf.Name || spm.State != api.SPMServing) {
				err = errors.New(spm.Host + " is, " + spm.State)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// awaitLost waits until every host knows that its leases are void.
func (p *agentPool) awaitLost(t *testing.T) {
	t.Helper()
	ctx := deadline(t, 40*time.Second)
	for _, a := range p.agents {
		err := poll(ctx, a.conf.Name+" gives its leases up", func() error {
			b, err := os.ReadFile(a.log)
			// The second is of a host whose storage had just been starting.
			if err == nil && !bytes.Contains(b, []byte("this host's storage is down")) && !bytes.Contains(b, []byte("this host starts without the pool's master")) {
				err = errNotThere
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
