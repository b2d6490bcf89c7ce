package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func e2eLease(n int) string { return fmt.Sprintf("6d1f0c52-51d1-4f0e-8d2b-%012d", n) }

// leaseCLI runs a verb about leases on a host of the pool and decodes its answer.
func leaseCLI[T any](t *testing.T, p *devProcess, host int, args ...string) (v T) {
	t.Helper()
	status, out, errs := cli(t, append([]string{"--address", p.file().Hosts[host].HTTP, "-o", "json", "lease"}, args...)...)
	if status != 0 {
		t.Fatalf("lease %v: status %d, %s", args, status, errs)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("lease %v: %v in %s", args, err, out)
	}
	return v
}

// Leases of VMs with real processes: made through a host that is not the SPM, seen by all, refused, deleted, and brought
// back after the index was damaged on the LUN.
func TestE2E_leases(t *testing.T) {
	p := startPool(t)
	mustCreate(t, p.client(0), "beside", 1)
	other := p.other(mustSPM(t, p).Host)
	var want []api.Lease
	for n := range 10 {
		c := leaseCLI[api.LeaseCreated](t, p, other, "create", e2eLease(n))
		if !c.Created || c.ID != e2eLease(n) || c.Offset != int64(3+n)<<20 {
			t.Fatalf("%+v", c)
		}
	}
	if c := leaseCLI[api.LeaseCreated](t, p, other, "create", e2eLease(3)); c.Created || c.Offset != 6<<20 {
		t.Errorf("made again: %+v", c)
	}
	for host := range 3 {
		got := leaseCLI[[]api.Lease](t, p, host, "list")
		if len(got) != 10 || got[4].ID != e2eLease(4) || got[4].Status != api.LeaseFree || !got[4].Takeable {
			t.Fatalf("host %d lists %+v", host, got)
		}
		want = got
	}
	if l := leaseCLI[api.Lease](t, p, other, "show", e2eLease(4), "--domain", "master"); l.ID != want[4].ID || l.Offset != want[4].Offset {
		t.Errorf("%+v", l)
	}
	refusedLeases(t, p, other)
	if d := leaseCLI[api.LeaseDeleted](t, p, other, "delete", e2eLease(9)); !d.Deleted {
		t.Errorf("%+v", d)
	}
	if d := leaseCLI[api.LeaseDeleted](t, p, other, "delete", e2eLease(9)); d.Deleted {
		t.Errorf("deleted twice: %+v", d)
	}
	sanlockSeesLeases(t, p)
	damagedIndex(t, p, other)
	afterAKill(t, p)
	judgeLUN(t, p)
}

func refusedLeases(t *testing.T, p *devProcess, host int) {
	t.Helper()
	address := p.file().Hosts[host].HTTP
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"show", e2eLease(77)}, 1, "not_found"},
		{[]string{"create", "vm-1"}, exitUsage, "UUID"},
		{[]string{"create", e2eLease(1), "--domain", "nowhere"}, 1, "not_found"},
		{[]string{"list", "more"}, exitUsage, ""},
	} {
		status, _, errs := cli(t, append([]string{"--address", address, "lease"}, c.args...)...)
		if status != c.status || !strings.Contains(errs, c.says) {
			t.Errorf("lease %v: status %d, %s", c.args, status, errs)
		}
	}
	_, err := p.client(host).CreateLease(deadline(t, 10*time.Second), "master", "vm-1")
	wantCode(t, err, api.CodeInvalid)
}

// xleasesOf is where the volume of external leases begins on the LUN file.
func xleasesOf(t *testing.T, p *devProcess) int64 {
	t.Helper()
	ctx := deadline(t, 20*time.Second)
	dev, err := blockdev.Open(ctx, p.file().LUN, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	g, err := lvm2.OpenWith(ctx, []blockdev.Device{dev}, lvm2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, off, err := g.Locate("xleases", 0)
	if err != nil {
		t.Fatal(err)
	}
	return off
}

// sanlockSeesLeases lets sanlock's dump look at the resources.
func sanlockSeesLeases(t *testing.T, p *devProcess) {
	t.Helper()
	testutil.NeedTool(t, "sanlock")
	out := testutil.Run(t, "sanlock", "direct", "dump", fmt.Sprintf("%s:%d:%d", p.file().LUN, xleasesOf(t, p)+3<<20, 10<<20))
	for n := range 9 {
		if !strings.Contains(out, e2eLease(n)) {
			t.Errorf("sanlock does not see lease %d:\n%s", n, out)
		}
	}
	if strings.Contains(out, e2eLease(9)) {
		t.Errorf("sanlock sees the deleted lease:\n%s", out)
	}
}

// damagedIndex damages the index behind the pool's back: first the flag that an interrupted rebuild leaves, then records.
func damagedIndex(t *testing.T, p *devProcess, host int) {
	t.Helper()
	index := xleasesOf(t, p) + 1<<20
	address := p.file().Hosts[host].HTTP
	for _, damage := range []struct {
		name string
		at   int64
		put  []byte
	}{
		{"flag", 70, []byte{'u'}},
		{"records", 512, bytes.Repeat([]byte{0xee}, 5*64)},
		{"flag and records", 70, append([]byte{'u'}, make([]byte, 512-71+128)...)},
	} {
		poke(t, p.file().LUN, index+damage.at, damage.put)
		status, _, errs := cli(t, "--address", address, "lease", "show", e2eLease(0))
		if status == 0 || !strings.Contains(errs, "lease rebuild") && !strings.Contains(errs, "not_found") {
			t.Errorf("%s: status %d, %s", damage.name, status, errs)
		}
		status, out, _ := cli(t, "--address", address, "domain", "check", "master")
		if status != 1 || !strings.Contains(out, "xleases") || !strings.Contains(out, "holdfast lease rebuild") {
			t.Errorf("%s: the check says, status %d: %s", damage.name, status, out)
		}
		if r := leaseCLI[api.LeaseRebuilt](t, p, host, "rebuild"); r.Leases != 9 {
			t.Errorf("%s: %+v", damage.name, r)
		}
		if l := leaseCLI[[]api.Lease](t, p, host, "list"); len(l) != 9 || l[0].ID != e2eLease(0) || l[0].Status != api.LeaseFree {
			t.Errorf("%s: afterwards %+v", damage.name, l)
		}
		if status, out, _ := cli(t, "--address", address, "domain", "check", "master"); status != 0 {
			t.Errorf("%s: the check still says: %s", damage.name, out)
		}
	}
}

func poke(t *testing.T, path string, off int64, p []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// afterAKill: the SPM dies, and a lease is made all the same; everybody sees the same list.
func afterAKill(t *testing.T, p *devProcess) {
	t.Helper()
	spm := mustSPM(t, p)
	if err := p.killAgent(spm.Host); err != nil {
		t.Fatal(err)
	}
	other := p.other(spm.Host)
	if c := leaseCLI[api.LeaseCreated](t, p, other, "create", e2eLease(20)); !c.Created || c.Epoch <= spm.Epoch {
		t.Errorf("%+v after epoch %d", c, spm.Epoch)
	}
	if err := p.awaitUp(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	for host := range 3 {
		poll := func() error {
			l, err := p.client(host).Leases(deadline(t, 10*time.Second), p.file().Domain)
			if err == nil && (len(l) != 10 || l[9].ID != e2eLease(20)) {
				err = fmt.Errorf("%d leases", len(l))
			}
			return err
		}
		testutil.Retry(t, 30*time.Second, poll)
	}
}
