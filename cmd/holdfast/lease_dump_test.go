package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// leaseFile has a lockspace with a host, a resource that the host holds, a hole, and a request.
func leaseFile(t *testing.T) string {
	t.Helper()
	file := newFile(t, 6*mib, "leases")
	for _, l := range []string{"direct init -s LS:0:%F:0 -o 1", "direct init -r LS:held:%F:1M -n 8", "direct init -r LS:asked:%F:4M -n 8", "direct acquire_id -s LS:3:%F:0 -o 1 -e host3",
		"direct acquire -r LS:held:%F:1M -i 3 -g 1"} {
		if r := ours(t, file, l); r.status != 0 {
			t.Fatal(l, r)
		}
	}
	overwrite(t, file, 4*mib+512+8, []byte{7, 0, 0, 0, 0, 0, 0, 0, 2})
	return file
}

func TestLeaseDump_sanlocksLayout(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	file := leaseFile(t)
	status, out, errs := runCLI(t, "lease", "dump", file)
	if status != exitOK {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	if want := theirs(t, file, "direct dump %F:0:6M -f 1").out; out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	_, out, _ = runCLI(t, "lease", "dump", "--ballots", file+":1M:1M")
	if want := theirs(t, file, "direct dump %F:1M:1M -f 2").out; out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

func TestLeaseDump_json(t *testing.T) {
	t.Parallel()
	file := leaseFile(t)
	_, out, errs := runCLI(t, "lease", "dump", file, "-o", "json")
	var got dumpedDevice
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	p := got.Parts[0]
	if len(p.Areas) != 3 || len(p.Damage) != 0 || p.SectorSize != 512 {
		t.Fatalf("%+v", p)
	}
	if h := p.Areas[0].Hosts; len(h) != 1 || h[0].HostID != 3 || h[0].Name != "host3" || h[0].IOTimeout != 1 || !h[0].ChecksumOK {
		t.Errorf("%+v", h)
	}
	if r := p.Areas[1].Resource; r.Name != "held" || r.OwnerID != 3 || r.Version != 1 || r.NumHosts != 8 || len(r.Blocks) != 1 || r.Blocks[0].HostID != 3 {
		t.Errorf("%+v", r)
	}
	if r := p.Areas[2].Resource; r.Request.Version != 7 || r.Request.ForceMode != 2 || p.Areas[2].Offset != 4*mib {
		t.Errorf("%+v", r)
	}
}

// TestLeaseDump_damage: each damage is told with its bytes, and what is behind it is still shown.
func TestLeaseDump_damage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at    int64
		bytes string
		want  string
	}{
		"first record":     {0, "\xff\xff\xff\xff", "bytes 0..511: record of host 1: none there, magic 0xffffffff"},
		"a run of records": {512 * 9, strings.Repeat("\x00", 512*5), "bytes 4608..7167: records of hosts 10 to 14: none there"},
		"host's checksum":  {512*2 + 152, "x", "bytes 1024..1195: record of host 3: checksum"},
		"leader's magic":   {mib, "\xff\xff\xff\xff", "bytes 1048576..1048579: leader: magic 0xffffffff"},
		"leader's sum":     {mib + 48, "\x09", "bytes 1048576..1048747: leader: checksum"},
		"request record":   {mib + 512, "\x00\x00", "bytes 1049088..1049107: request record"},
		"a ballot":         {mib + 512*4, "\x77", "bytes 1050624..1050675: block of host 3: checksum"},
		"stray bytes":      {2 * mib, "stray", "bytes 2097152..2097663: neither a lease record nor empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := leaseFile(t)
			overwrite(t, file, c.at, []byte(c.bytes))
			status, out, _ := runCLI(t, "lease", "dump", file)
			if status != exitFailed || strings.Count(out, "DAMAGED") != 1 || !strings.Contains(out, c.want) {
				t.Errorf("status %d, want %q in\n%s", status, c.want, out)
			}
			for _, still := range []string{"host3", "asked"} {
				if !strings.Contains(out, still) {
					t.Errorf("%s is not shown any more:\n%s", still, out)
				}
			}
			_, js, _ := runCLI(t, "lease", "dump", file, "-o", "json")
			if !strings.Contains(js, `"what": "`) {
				t.Errorf("no damage in\n%s", js)
			}
		})
	}
}

func TestLeaseDump_wrongUse(t *testing.T) {
	t.Parallel()
	file := leaseFile(t)
	for _, c := range []struct {
		status int
		args   []string
	}{
		{exitUsage, nil}, {exitUsage, []string{file, "--sector-size", "512"}}, {exitUsage, []string{file, "--sector-size", "512", "--area-size", "2M"}},
		{exitUsage, []string{file, file + ":1M"}}, {exitUsage, []string{file, file}}, {exitFailed, []string{filepath.Join(t.TempDir(), "none")}}, {exitFailed, []string{t.TempDir()}},
		{exitUsage, []string{file, "-o", "yaml"}}, {exitOK, []string{file, "--sector-size", "512", "--area-size", "1M"}},
	} {
		if status, out, errs := runCLI(t, append([]string{"lease", "dump"}, c.args...)...); status != c.status {
			t.Errorf("%q: status %d\n%s%s", c.args, status, out, errs)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// openGuard allows every write.
type openGuard struct{}

func (openGuard) Check(time.Duration) error { return nil }
func (openGuard) Epoch() uint64             { return 1 }

// domainLUNs makes a volume group like a block domain's on two LUNs, with lease volumes on both, and returns their paths.
func domainLUNs(t *testing.T) []string {
	t.Helper()
	ctx := testutil.Deadline(t)
	paths := []string{testutil.SparseFile(t, "lun1", 4<<30), testutil.SparseFile(t, "lun2", 4<<30)}
	var devs []blockdev.Device
	for _, p := range paths {
		d, err := blockdev.Open(ctx, p, blockdev.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		devs = append(devs, d)
	}
	group, err := lvm2.Create(ctx, lvm2.CreateOptions{Name: "8adbc85e-e554-4ae0-b318-8a5465fe5fe1", Devices: devs, Now: time.Now()}, openGuard{})
	if err != nil {
		t.Fatal(err)
	}
	tx := group.Begin()
	for i, name := range leaseVolumes {
		if _, err := tx.CreateLV(name, 256*mib, lvm2.LVOptions{Place: &lvm2.Place{PV: i % 2, Start: -1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := group.Commit(ctx, tx, openGuard{}, "test"); err != nil {
		t.Fatal(err)
	}
	init := func(volume string, f func(blockdev.Device) error) {
		d, err := group.Device(volume)
		if err != nil {
			t.Fatal(err)
		}
		if err := f(d); err != nil {
			t.Fatal(err)
		}
	}
	init("ids", func(d blockdev.Device) error {
		return leases.InitLockspace(ctx, d, 0, leases.Geometry512, "LS", time.Second)
	})
	init("leases", func(d blockdev.Device) error {
		return leases.InitResource(ctx, d, mib, leases.Geometry512, "LS", "SDM", 8)
	})
	init("xleases", func(d blockdev.Device) error {
		return leases.InitResource(ctx, d, 200*mib, leases.Geometry512, "LS", "vm1", 8)
	})
	return paths
}

func TestLeaseDump_LUNs(t *testing.T) {
	t.Parallel()
	paths := domainLUNs(t)
	status, out, errs := runCLI(t, append([]string{"lease", "dump"}, paths...)...)
	if status != exitOK {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	for _, want := range []string{"volume ids of 8adbc85e", "volume leases of", "volume xleases of", " SDM 0000000000", fmt.Sprintf("%08d", 200*mib), " vm1 "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if status, _, errs := runCLI(t, "lease", "dump", paths[0]); status != exitFailed || !strings.Contains(errs, "all LUNs") {
		t.Errorf("one of two LUNs: status %d, %s", status, errs)
	}
	_, out, _ = runCLI(t, append([]string{"lease", "dump", "-o", "json"}, paths...)...)
	var got dumpedDevice
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Parts) != 3 || got.Parts[1].Areas[0].Resource.Name != "SDM" {
		t.Errorf("%v\n%s", err, out)
	}
}
