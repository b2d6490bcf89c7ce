package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// callers make volumes on several domains without a pause, through all hosts, and keep what was said to them.
type callers struct {
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu      sync.Mutex
	calls   int
	made    map[string]string // id -> domain; "" may be gone
	failed  []string
	longest time.Duration
}

// startCallers starts one caller for each of some hosts and domain. Each creation has a key, so that a client may send it again.
func startCallers(t *testing.T, p *devProcess, prefix string, hosts []int, domains ...string) *callers {
	t.Helper()
	c := &callers{made: map[string]string{}}
	ctx, stop := context.WithCancel(t.Context())
	c.stop = stop
	t.Cleanup(func() { stop(); c.wg.Wait() })
	for _, i := range hosts {
		for _, d := range domains {
			c.wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					c.call(p.client(i), d, fmt.Sprintf("%s-%s-%d-%d", prefix, d, i, n), n < keptVolumes)
				}
			})
		}
	}
	return c
}

// keptVolumes is how many volumes of each caller stay; the others are deleted again, or the domains would fill up.
const keptVolumes = 8

// call makes a volume and may delete it. It is not ended with the callers: what was begun is waited for.
func (c *callers) call(cl *client.Client, domain, name string, keep bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begun := time.Now()
	v, err := cl.CreateVolume(ctx, api.VolumeCreate{Name: name, Domain: domain, Size: gib}, "key-"+name)
	c.note("creating "+name, time.Since(begun), err)
	switch {
	case err != nil:
	case keep:
		c.mu.Lock()
		c.made[v.ID] = domain
		c.mu.Unlock()
	default:
		begun = time.Now()
		_, err := cl.DeleteVolume(ctx, v.ID)
		switch asError(err).Code {
		case api.CodeNotFound:
			err = nil // it was asked for again after a lost answer
		case api.CodeOutcomeUnknown: // the host that had it was killed, and a deletion has no key
			c.mu.Lock()
			c.made[v.ID] = ""
			c.mu.Unlock()
			err = nil
		}
		c.note("deleting "+name, time.Since(begun), err)
	}
}

func (c *callers) note(what string, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.longest = max(c.longest, took)
	if err != nil {
		c.failed = append(c.failed, fmt.Sprintf("%s, after %s: %v", what, took, err))
	}
}

// count is how many calls have ended well.
func (c *callers) count() int { c.mu.Lock(); defer c.mu.Unlock(); return c.calls - len(c.failed) }

// more waits until so many more calls have ended well.
func (c *callers) more(t *testing.T, n int) {
	t.Helper()
	want := c.count() + n
	if err := poll(deadline(t, 60*time.Second), "calls end well", func() error {
		if have := c.count(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// end ends the callers and judges: no call has failed.
func (c *callers) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.wg.Wait()
	t.Logf("%d calls, the longest took %s", c.calls, c.longest)
	for _, f := range c.failed {
		t.Error(f)
	}
}

// The master moves to another domain and back while volumes are made on both, and once the SPM is killed in the middle: no call fails,
// every volume is there, and what the disks, lvm2 and the mirror say agrees.
func TestE2E_setMaster(t *testing.T) {
	p := startPool(t, "--lun-size", "64G")
	lun := furtherLUN(t, p, "second", 64*gib)
	second, err := p.client(0).CreateDomain(deadline(t, 60*time.Second), api.DomainCreate{Name: "second", Devices: []string{lun}})
	if err != nil {
		t.Fatal(err)
	}
	warm, err := p.client(0).CreateVolume(deadline(t, 60*time.Second), api.VolumeCreate{Name: "warm", Domain: "second", Size: gib}, "") // its lockspace is joined
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.client(0).DeleteVolume(deadline(t, 60*time.Second), warm.ID); err != nil {
		t.Fatal(err)
	}
	c := startCallers(t, p, "planned", []int{0, 1, 2}, "master", "second")
	c.more(t, 20)
	before := mustSPM(t, p)
	var out api.MasterChanged
	status, stdout, stderr := cli(t, "domain", "set-master", "second", "--reason", "test", "--address", p.file().Hosts[p.other(before.Host)].HTTP, "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &out); status != exitOK || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, stderr)
	}
	if out.Master != second.ID || out.Version != 2 || out.Epoch <= before.Epoch || !out.Mirrored {
		t.Errorf("%+v", out)
	}
	t.Logf("nothing was served for %d ms", out.TookMS)
	c.more(t, 20)
	masterIs(t, p, "second", "master")
	c.end(t)
	k := killedWhileMoving(t, p)
	if err := p.awaitUp(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	allThere(t, p, c, k)
	for i := range p.file().Hosts {
		for _, d := range []string{"master", "second"} {
			if k, err := p.client(i).CheckDomain(deadline(t, 60*time.Second), d); err != nil || !k.Clean {
				t.Errorf("host %d: check of %s: %+v, %v", i, d, k, err)
			}
		}
	}
	judgeMasters(t, p, second.ID, lun)
}

// allThere compares what is listed with what was made.
func allThere(t *testing.T, p *devProcess, all ...*callers) {
	t.Helper()
	vols, _, err := p.client(0).Volumes(deadline(t, 10*time.Second), client.VolumeFilter{}, client.Read{Consistent: true})
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, v := range vols {
		listed[v.ID] = true
	}
	for _, c := range all {
		for id, domain := range c.made {
			if domain != "" && !listed[id] {
				t.Errorf("volume %s of domain %s is gone", id, domain)
			}
			delete(listed, id)
		}
	}
	for id := range listed {
		t.Errorf("nobody has volume %s any more, and it is listed", id)
	}
}

// killedWhileMoving asks for the move back and kills the SPM's host as soon as it has begun. Which of the two is the master then is
// for the next SPM to find out; asked for again, it is the one that was asked for. Calls through the other hosts do not fail.
func killedWhileMoving(t *testing.T, p *devProcess) *callers {
	t.Helper()
	spm := mustSPM(t, p)
	var others []int
	for i, h := range p.file().Hosts {
		if h.Name != spm.Host {
			others = append(others, i)
		}
	}
	c := startCallers(t, p, "killed", others, "master", "second")
	c.more(t, 20)
	asked := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		close(begun)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := p.client(others[0]).SetMaster(ctx, "master", api.MasterSet{Reason: "back"})
		asked <- err
	}()
	<-begun
	if _, err := p.kill(spm.Host); err != nil {
		t.Fatal(err)
	}
	t.Logf("the change that was cut short said: %v", <-asked)
	c.more(t, 10)
	if err := poll(deadline(t, 60*time.Second), "the master is back", func() error {
		_, err := p.client(others[0]).SetMaster(t.Context(), "master", api.MasterSet{Reason: "back"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	masterIs(t, p, "master", "second")
	c.more(t, 20)
	c.end(t)
	return c
}

// masterIs waits until every host shows the roles.
func masterIs(t *testing.T, p *devProcess, master, plain string) {
	t.Helper()
	for i := range p.file().Hosts {
		if err := poll(deadline(t, 30*time.Second), "the mirror shows the new master", func() error {
			for name, role := range map[string]string{master: "master", plain: "regular"} {
				if d, _, err := p.client(i).Domain(t.Context(), name, client.Read{}); err != nil || d.Role != role {
					return errors.Join(fmt.Errorf("%s is %s", name, d.Role), err)
				}
			}
			return nil
		}); err != nil {
			t.Errorf("host %d: %v", i, err)
		}
	}
}

// judgeMasters lets lvm2 look at both domains: which one says that it is the master, with which keys.
func judgeMasters(t *testing.T, p *devProcess, second, lun string) {
	t.Helper()
	testutil.NeedTool(t, "lvm", "losetup")
	for _, d := range []struct {
		vg, lun string
		want    []string
	}{
		{p.file().Domain, p.file().LUN, []string{"MDT_ROLE=Master", "MDT_POOL_UUID=" + p.file().Pool, second + ":Active", p.file().Domain + ":Active", "MDT_POOL_SPM_ID=-1"}},
		{second, lun, []string{"MDT_ROLE=Regular", "MDT_MASTER_VERSION=0", "MDT_POOL_UUID=" + p.file().Pool}},
	} {
		j := &judges{lun: d.lun, vg: d.vg}
		if err := j.attach(deadline(t, 60*time.Second)); err != nil {
			t.Fatal(err)
		}
		out, err := j.lvm(t.Context(), "vgs", "--noheadings", "-o", "vg_tags", d.vg)
		check, cerr := j.lvm(t.Context(), "vgck", d.vg)
		if derr := j.detach(); err != nil || cerr != nil || derr != nil {
			t.Errorf("%s: %v %s; %v %s; %v", d.vg, err, out, cerr, check, derr)
		}
		for _, tag := range d.want {
			if !strings.Contains(string(out), tag) {
				t.Errorf("%s has no %s: %s", d.vg, tag, out)
			}
		}
		if strings.Contains(string(out), "HOLDFAST_NEXT_MASTER") {
			t.Errorf("a mark is left: %s", out)
		}
	}
}

// The LUN of the master is gone for good. Another domain becomes the master once every host gave its word, and volumes can be made
// again; when the LUN comes back after all, its domain is a plain one with everything on it.
func TestAgents_masterLost(t *testing.T) {
	srv := serveNBD(t, "nbdkit", newLUN(t, 32*gib))
	other := newLUN(t, 32*gib)
	p := newAgentPool(t, 3, srv.uri(), func(c *config.Agent) { c.Devices = append(c.Devices, other) })
	a := p.agents[0]
	second, err := a.CreateDomain(deadline(t, 60*time.Second), api.DomainCreate{Name: "second", Devices: []string{other}})
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range []string{"master", "second"} {
		if _, err := a.CreateVolume(deadline(t, 30*time.Second), api.VolumeCreate{Name: fmt.Sprint("old", i), Domain: d, Size: gib}, ""); err != nil {
			t.Fatal(err)
		}
	}
	lost := p.awaitSPM(t)
	refusal(t, a, api.CodeConflict, "domain", "set-master", "second", "--reconstruct", "--reason", "it works")
	srv.stop()
	p.awaitLost(t)
	req := api.MasterReconstruct{Reason: "the array burnt"}
	var done api.MasterReconstructed
	if err := poll(deadline(t, 90*time.Second), "the master is given up", func() error {
		done, err = a.ReconstructMaster(t.Context(), second.ID, req)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if done.Master != second.ID || len(done.Promised)+len(done.Proofs) != 3 {
		t.Errorf("%+v", done)
	}
	v, err := a.CreateVolume(deadline(t, 60*time.Second), api.VolumeCreate{Name: "new", Domain: "second", Size: gib}, "")
	if err != nil || v.Epoch <= lost.Epoch {
		t.Fatalf("under the new master: %+v, %v; the old epoch was %d", v, err, lost.Epoch)
	}
	srv.start(t)
	if err := poll(deadline(t, 60*time.Second), "the lost domain is a plain one", func() error {
		_, err := a.CreateVolume(t.Context(), api.VolumeCreate{Name: "again", Domain: "master", Size: gib}, "key-again")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	mustList(t, a.Client, 4)
	for _, name := range []string{"master", "second"} {
		var check api.Check
		mustJSON(t, a, &check, "domain", "check", name)
	}
	if d, _, err := a.Domain(t.Context(), "master", client.Read{Consistent: true}); err != nil || d.Role != "regular" {
		t.Errorf("%+v, %v", d, err)
	}
	everyHostServes(t, p) // each has learned of the new master
}
