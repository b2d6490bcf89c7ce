package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// awaitFence waits until the newest operation on a host satisfies ok.
func awaitFence(t *testing.T, c *client.Client, host, what string, ok func(api.FenceOp) bool) (op api.FenceOp) {
	t.Helper()
	err := poll(deadline(t, 2*time.Minute), what, func() error { // a busy machine takes its time over each of a dozen processes
		l, _, err := c.FenceHistory(t.Context(), host, 0, client.Read{})
		if err != nil {
			return err
		}
		for _, op = range l {
			if ok(op) {
				return nil
			}
		}
		return errors.New("not yet")
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, fencingStory(t, c, host))
	}
	return op
}

// fencingStory is what is known about a host when its fencing did not go as a test expects: its operations with their steps, the states of
// all hosts, who is SPM and why, and the latest events.
func fencingStory(t *testing.T, c *client.Client, host string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	var b strings.Builder
	tell := func(what string, err error) {
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", what, err)
		}
	}
	ops, _, err := c.FenceHistory(ctx, host, 0, client.Read{})
	tell("the history", err)
	for _, op := range ops {
		fmt.Fprintf(&b, "%s %s %s by %s: %s %s\n", op.Began.Format(time.StampMilli), op.Action, op.Host, op.By, op.Outcome, op.Detail)
		for _, st := range op.Steps {
			fmt.Fprintf(&b, "  %s term %d: %s %s %s through %q: %s\n", st.Time.Format(time.StampMilli), st.Term, st.Rung, st.Result, st.Device, st.Through, st.Evidence)
		}
	}
	hosts, _, err := c.Hosts(ctx, client.Read{})
	tell("the hosts", err)
	for _, h := range hosts {
		fmt.Fprintf(&b, "host %s is %s since %s: %s %+v\n", h.Name, h.State, h.Since.Format(time.StampMilli), h.Reason, h.Witnesses)
	}
	spm, _, err := c.SPM(ctx, client.Read{})
	tell("the SPM", err)
	fmt.Fprintf(&b, "SPM: %+v\n", spm)
	events, _, err := c.Events(ctx, 0, 1000, client.Read{})
	tell("the events", err)
	for _, e := range events[max(len(events)-40, 0):] {
		fmt.Fprintf(&b, "%+v\n", e)
	}
	return b.String()
}

func awaitPowerState(t *testing.T, c *client.Client, host string, states ...string) {
	t.Helper()
	err := poll(deadline(t, 60*time.Second), host+" is "+strings.Join(states, " or "), func() error {
		h, _, err := c.Host(t.Context(), host, client.Read{})
		if err == nil && !slices.Contains(states, h.State) {
			err = errors.New("it is " + h.State + ": " + h.Reason)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A killed SPM host: the power switch confirms that it is off, that is the proof in the history, the role goes elsewhere, and the host
// is switched on and rejoins.
func TestE2E_fencedByTheManager(t *testing.T) {
	p := startPool(t)
	spm := mustSPM(t, p)
	if _, err := p.kill(spm.Host); err != nil {
		t.Fatal(err)
	}
	asker := p.client(p.other(spm.Host))
	mustCreate(t, asker, "after", 1)
	op := awaitFence(t, asker, spm.Host, "a proof", func(o api.FenceOp) bool { return o.Proven })
	last := op.Steps[len(op.Steps)-1]
	if op.Outcome != "done" || op.ByPerson || last.Rung != "power_off" || last.Result != "ok" || last.Device != "process" || !strings.Contains(last.Evidence, "status through") {
		t.Errorf("%+v", op)
	}
	intent := op.Steps[len(op.Steps)-2]
	if intent.Result != "intent" || intent.Time.After(last.Time) || intent.Term != last.Term {
		t.Errorf("the order has no intent of its term before it: %+v", op.Steps)
	}
	awaitFence(t, asker, spm.Host, "switched on", func(o api.FenceOp) bool { return o.Action == "on" && o.Outcome == "done" })
	awaitPowerState(t, asker, spm.Host, "up")
}

// What a person may do with power: a host that answers needs force, what was switched off stays off, and is switched on again.
func TestE2E_powerByAPerson(t *testing.T) {
	p := startPool(t)
	st, _, err := p.client(0).Status(t.Context(), client.Read{})
	if err != nil {
		t.Fatal(err)
	}
	var victim string
	for _, h := range st.Hosts {
		if h.Name != st.Raft.Leader && !h.SPM {
			victim = h.Name
		}
	}
	if victim == "" { // the leader is SPM: one of the others
		victim = p.file().Hosts[p.other(st.Raft.Leader)].Name
	}
	c := p.client(p.other(victim))
	health, err := c.PowerHealth(t.Context(), victim, "")
	if err != nil || !health.OffWorks || !health.OnWorks {
		t.Fatalf("%+v, %v", health, err)
	}
	var refused *api.Error
	if _, err := c.PowerOrder(t.Context(), victim, api.PowerOrder{Action: api.PowerOff}); !errors.As(err, &refused) || refused.Code != api.CodeConflict {
		t.Fatalf("a host that answers was switched off without force: %v", err)
	}
	if _, err := c.PowerOrder(t.Context(), st.Raft.Leader, api.PowerOrder{Action: api.PowerOff, Force: true}); !errors.As(err, &refused) || refused.Code != api.CodeConflict {
		t.Fatalf("the leader switched itself off: %v", err)
	}
	op, err := c.PowerOrder(t.Context(), victim, api.PowerOrder{Action: api.PowerOff, Reason: "test", Force: true})
	if err != nil || op.Outcome != "done" || !op.Proven || !op.ByPerson {
		t.Fatalf("%+v, %v", op, err)
	}
	awaitPowerState(t, c, victim, "down")
	power, err := c.PowerStatus(t.Context(), victim)
	if err != nil || power.State != "off" {
		t.Fatalf("%+v, %v", power, err)
	}
	if op, err = c.PowerOrder(t.Context(), victim, api.PowerOrder{Action: api.PowerOn}); err != nil || op.Outcome != "done" {
		t.Fatalf("%+v, %v", op, err)
	}
	awaitPowerState(t, c, victim, "up")
}

// A secret goes in and never comes out: not by the API, not in the logs, not in the files of Raft.
func TestE2E_powerSecretIsSealed(t *testing.T) {
	dir := shortDir(t)
	p := startPoolIn(t, dir)
	const secret = "Xq7-Unmistakable-08"
	set := api.PowerDeviceSet{Type: api.PowerIPMI, Order: 1, Address: "127.0.0.1", Port: 1, User: "fence", Secret: secret, Options: map[string]string{"status_timeout": "1s"}}
	host := p.file().Hosts[1].Name
	c := p.client(0)
	d, err := c.SetPowerDevice(t.Context(), host, "bmc", set)
	if err != nil || !d.HasSecret {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := c.PowerHealth(t.Context(), host, ""); err != nil { // it is opened, and tried in vain
		t.Fatal(err)
	}
	set.Secret, set.Order = "", 2
	if d, err = c.SetPowerDevice(t.Context(), host, "bmc", set); err != nil || !d.HasSecret {
		t.Errorf("a change of the order lost the secret: %+v, %v", d, err)
	}
	set.Address = "127.0.0.2"
	if d, err = c.SetPowerDevice(t.Context(), host, "bmc", set); err == nil && d.HasSecret {
		t.Errorf("the secret would be sent to another address now: %+v", d)
	}
	if found := grepFiles(t, dir, secret); len(found) > 0 {
		t.Errorf("the secret lies in the clear in %v", found)
	}
	if len(grepFiles(t, dir, set.User)) == 0 { // the user's name is no secret, and lies beside it
		t.Error("the search finds nothing at all")
	}
	if err := c.RemovePowerDevice(context.Background(), host, "bmc"); err != nil {
		t.Error(err)
	}
	if l, _, err := c.PowerDevices(t.Context(), host, client.Read{Consistent: true}); err != nil || len(l) != 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

// maxGrep leaves the LUN out, which is larger.
const maxGrep = 256 << 20

// grepFiles lists the files below dir that hold a text.
func grepFiles(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it went away meanwhile
		}
		if info, err := e.Info(); err != nil || info.Size() > maxGrep {
			return nil
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(text)) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
