package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// asChassis makes the test binary behave as the chassis of a simulated BMC: its power is a host's of a dev pool. The value is
// the supervisor's socket and the host's name.
const asChassis = "HOLDFAST_TEST_AS_CHASSIS"

// chassis serves what the simulator asks: get NAME..., set NAME VALUE, check NAME VALUE.
func chassis(where string, args []string) int {
	socket, host, _ := strings.Cut(where, " ")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := fencing.NewProcess(socket)
	if len(args) < 3 {
		return 1
	}
	var err error
	switch order := strings.Join(args[1:], " "); order { // after the BMC's address
	case "get power":
		var st fencing.State
		if st, err = p.Status(ctx, host); err == nil {
			fmt.Printf("power:%d\n", b2i(st == fencing.On))
		}
	case "set power 0":
		_, err = p.Off(ctx, host)
	case "set power 1":
		err = p.On(ctx, host)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startBMC runs a simulated BMC in front of a host of a dev pool, and returns its port.
func startBMC(t *testing.T, pool, host, user, secret string) int {
	t.Helper()
	dir, port := t.TempDir(), testutil.FreePort(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("chassis", fmt.Sprintf("#!/bin/sh\n%s='%s %s' exec %s \"$@\"\n", asChassis, powerSocket(pool), host, self), 0o700)
	write("lan.conf", fmt.Sprintf(`name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 %d
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "%s/chassis 0x20"
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "%s" "%s" admin 10 none md2 md5 straight
`, port, dir, user, secret), 0o600)
	write("emu", "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n", 0o600)
	cmd := exec.Command("ipmi_sim", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "emu"), "-s", dir, "-n") // lives as long as the test
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return port
}

// awaitProof waits for the proof of a dead host's death. While the machine is so busy that most hosts seem silent nobody is fenced, and
// once its lease is dead nobody needs to be: then a person has it fenced, which is what gets it back.
func awaitProof(t *testing.T, c *client.Client, host string) (proven api.FenceOp) {
	t.Helper()
	ordered := time.Now().Add(20 * time.Second)
	err := poll(deadline(t, 2*time.Minute), "a proof", func() error {
		ops, _, err := c.FenceHistory(t.Context(), host, 0, client.Read{})
		if err != nil {
			return err
		}
		for _, op := range ops {
			if op.Proven {
				proven = op
				return nil
			}
		}
		if time.Now().Before(ordered) {
			return errors.New("not yet")
		}
		ordered = time.Now().Add(5 * time.Second)
		_, err = c.PowerOrder(t.Context(), host, api.PowerOrder{Action: api.PowerFence, Reason: "it was not fenced by itself", Force: true})
		return errors.Join(errors.New("a person has ordered it"), err)
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, fencingStory(t, c, host))
	}
	return proven
}

// A host with a BMC: what the manager does with a real power device, through another host, with a secret that only members can open.
func TestE2E_fencedByIPMI(t *testing.T) {
	testutil.NeedTool(t, "ipmi_sim")
	dir := shortDir(t)
	p := startPoolIn(t, dir)
	spm := mustSPM(t, p)
	port := startBMC(t, dir, spm.Host, "fence", "s3cret")
	c := p.client(p.other(spm.Host))
	_, err := c.SetPowerDevice(t.Context(), spm.Host, "bmc", api.PowerDeviceSet{Type: api.PowerIPMI, Order: 1, Address: "127.0.0.1", Port: port, User: "fence",
		Secret: "s3cret", Options: map[string]string{"cipher": "3"}})
	if err != nil {
		t.Fatal(err)
	}
	err = poll(deadline(t, 60*time.Second), "the BMC works", func() error {
		h, err := c.PowerHealth(t.Context(), spm.Host, "")
		if err == nil && (!h.OffWorks || !h.OnWorks) {
			err = fmt.Errorf("%+v", h)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Its power is lost: after a mere kill the supervisor would start it again, and who answers is not fenced.
	if _, err := fencing.NewProcess(powerSocket(dir)).Off(deadline(t, 30*time.Second), spm.Host); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "after", 1)
	op := awaitProof(t, c, spm.Host)
	switch last := op.Steps[len(op.Steps)-1]; {
	case last.Rung == "lease_dead" && last.Result == "ok": // a machine so busy that its lease died before the BMC had answered
		t.Logf("proven by its lease:\n%s", fencingStory(t, c, spm.Host))
	case last.Device != "bmc" || last.Result != "ok" || last.Through == spm.Host || !strings.Contains(last.Evidence, "bmc status = off"):
		t.Errorf("%+v", last)
	}
	on := awaitFence(t, c, spm.Host, "switched on", func(o api.FenceOp) bool { return o.Action == "on" && o.Outcome == "done" })
	if s := on.Steps[len(on.Steps)-1]; s.Device != "bmc" {
		t.Errorf("%+v", s)
	}
	awaitPowerState(t, c, spm.Host, "up")
	if st, _, err := c.Host(t.Context(), spm.Host, client.Read{}); err != nil || st.Generation < 2 {
		t.Errorf("%+v, %v", st, err)
	}
}
