package leases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// openFile makes a file of the given size and opens it as a device.
func openFile(t testing.TB, size int64, sector int) (blockdev.Device, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lun")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	d, err := blockdev.Open(testutil.Deadline(t), path, blockdev.Options{SectorSize: sector})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, path
}

var geometries = []Geometry{Geometry512, {4096, mib}, {4096, 2 * mib}, {4096, 4 * mib}, {4096, 8 * mib}}

// TestInit_sameBytesAsSanlock compares whole areas with `sanlock direct init`, guard bytes behind them included.
func TestInit_sameBytesAsSanlock(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	n48 := strings.Repeat("0123456789abcdef", 3)
	for _, g := range geometries {
		for _, c := range []struct {
			name  string
			n     int
			hosts int
		}{{"LS", 1, 0}, {"LS", 10, 4}, {n48, 20, 2000}, {"LS", 10, 4000}} {
			t.Run(fmt.Sprintf("%d-%dM-%d-%d", g.SectorSize, g.AlignSize/mib, c.n, c.hosts), func(t *testing.T) {
				t.Parallel()
				compareInit(t, g, c.name, c.n, c.hosts)
			})
		}
	}
}

func compareInit(t *testing.T, g Geometry, name string, n, hosts int) {
	ctx := testutil.Deadline(t)
	dev, path := openFile(t, 2*g.AlignSize+4096, 512)
	z, a := fmt.Sprint(g.SectorSize), fmt.Sprintf("%dM", g.AlignSize/mib)
	theirs := filepath.Join(t.TempDir(), "theirs")
	if err := os.WriteFile(theirs, make([]byte, 2*g.AlignSize+4096), 0o600); err != nil {
		t.Fatal(err)
	}
	testutil.Run(t, "sanlock", "direct", "init", "-s", fmt.Sprintf("%s:0:%s:0", name, theirs), "-o", fmt.Sprint(n), "-Z", z, "-A", a)
	testutil.Run(t, "sanlock", "direct", "init", "-r", fmt.Sprintf("%s:%s:%s:%d", name, name, theirs, g.AlignSize), "-n", fmt.Sprint(hosts), "-Z", z, "-A", a)
	if err := InitLockspace(ctx, dev, 0, g, name, time.Duration(n)*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := InitResource(ctx, dev, g.AlignSize, g, name, name, hosts); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("byte %#x: ours %#x, sanlock's %#x", i, got[i], want[i])
			}
		}
		t.Fatalf("%d bytes, sanlock's %d", len(got), len(want))
	}
}

// joinedOn makes a lockspace at 0 and a resource at 1 MiB on a file and joins.
func joinedOn(t *testing.T, hosts int) (*Lockspace, ResourceSpec, string) {
	t.Helper()
	ctx := testutil.Deadline(t)
	dev, path := openFile(t, 4*mib, 512)
	if err := InitLockspace(ctx, dev, 0, Geometry512, "LS", time.Second); err != nil {
		t.Fatal(err)
	}
	if err := InitResource(ctx, dev, mib, Geometry512, "LS", "res", hosts); err != nil {
		t.Fatal(err)
	}
	ls, err := Join(ctx, LockspaceConfig{Device: dev, Name: "LS", HostID: 3, HostName: "ours", Profile: Dev, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	run, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ls.Run(run) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("renewal: %v", err)
		}
	})
	return ls, ResourceSpec{Name: "res", Device: dev, Offset: mib}, path
}

// direct runs `sanlock direct` and returns its output; its exit status says nothing.
func direct(t *testing.T, args ...string) string {
	t.Helper()
	out, _ := testutil.TryRun(t, append([]string{"sanlock", "direct"}, args...)...)
	return out
}

// TestSanlock_readsWhatWeWrite: read_leader and dump show our values, and acquire respects our lease.
func TestSanlock_readsWhatWeWrite(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	ls, spec, path := joinedOn(t, 0)
	ctx := testutil.Deadline(t)
	res := fmt.Sprintf("LS:res:%s:1048576", path)
	lease, err := ls.Acquire(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	out := direct(t, "read_leader", "-r", res)
	for _, want := range []string{"owner_id 3", "owner_generation 1", "lver 1", "write_id 3"} {
		if !strings.Contains(out, want) {
			t.Errorf("read_leader lacks %q:\n%s", want, out)
		}
	}
	if out := direct(t, "read_leader", "-s", fmt.Sprintf("LS:3:%s:0", path)); !strings.Contains(out, "resource_name ours") || !strings.Contains(out, "owner_id 3") {
		t.Errorf("lockspace:\n%s", out)
	}
	if out := direct(t, "acquire", "-i", "5", "-g", "1", "-r", res); !strings.Contains(out, "-241") {
		t.Errorf("sanlock took a lease that we hold: %s", out)
	}
	if err := lease.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if out := direct(t, "dump", path+":1048576:1M", "-f", "2"); !strings.Contains(out, "res") {
		t.Errorf("dump:\n%s", out)
	}
	if out := direct(t, "acquire", "-i", "5", "-g", "1", "-r", res); strings.Contains(out, "-2") {
		t.Errorf("sanlock could not take what we released: %s", out)
	}
	sanlockOwns(t, ls, spec)
}

// sanlockOwns: host 5 took the lease by sanlock's hand and never joined, so its record is free and the lease takeable;
// once it has joined, it is the holder.
func sanlockOwns(t *testing.T, ls *Lockspace, spec ResourceSpec) {
	t.Helper()
	ctx := testutil.Deadline(t)
	info, err := ls.ReadResource(ctx, spec)
	if err != nil || info.Owner != 5 || info.Version != 2 || info.State != ResourceFree {
		t.Fatalf("%+v, %v", info, err)
	}
	path := spec.Device.Name()
	direct(t, "acquire_id", "-s", "LS:5:"+path+":0", "-o", "1", "-e", "theirs")
	direct(t, "acquire", "-i", "5", "-g", "1", "-r", "LS:res:"+path+":1048576")
	direct(t, "renew_id", "-s", "LS:5:"+path+":0", "-o", "1", "-e", "theirs")
	spec.NoWait = true
	_, err = ls.Acquire(ctx, spec)
	var held *HeldError
	if !errors.As(err, &held) || held.HostID != 5 || held.Generation != 1 {
		t.Fatalf("acquire against a live sanlock host: %v", err)
	}
	if info, err = ls.ReadResource(ctx, spec); err != nil || info.State != ResourceExclusive {
		t.Fatalf("%+v, %v", info, err)
	}
	direct(t, "release_id", "-s", "LS:5:"+path+":0", "-o", "1", "-e", "theirs")
	lease, err := ls.Acquire(ctx, spec)
	if err != nil {
		t.Fatalf("after sanlock's host left: %v", err)
	}
	if lease.Epoch() != info.Version+1 {
		t.Errorf("version %d after %d", lease.Epoch(), info.Version)
	}
}

// TestSanlock_hostIDs: sanlock takes, renews and frees what we wrote, and we go on from there.
func TestSanlock_hostIDs(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	ctx := testutil.Deadline(t)
	dev, path := openFile(t, mib, 512)
	if err := InitLockspace(ctx, dev, 0, Geometry512, "LS", time.Second); err != nil {
		t.Fatal(err)
	}
	cfg := LockspaceConfig{Device: dev, Name: "LS", HostID: 7, HostName: "same", Profile: Dev, Log: quiet()}
	direct(t, "acquire_id", "-s", "LS:7:"+path+":0", "-o", "1", "-e", "same")
	ls, err := Join(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if ls.Generation() != 2 {
		t.Errorf("generation %d after sanlock's first", ls.Generation())
	}
	if err := ls.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	direct(t, "acquire_id", "-s", "LS:7:"+path+":0", "-o", "1", "-e", "other")
	out := direct(t, "read_leader", "-s", "LS:7:"+path+":0")
	if !strings.Contains(out, "owner_generation 3") || !strings.Contains(out, "resource_name other") {
		t.Errorf("after we left:\n%s", out)
	}
}
