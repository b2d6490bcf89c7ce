package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// overwrite changes bytes of a file.
func overwrite(t testing.TB, file string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSanlock_dump_ranges: every way to say what to dump.
func TestSanlock_dump_ranges(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	c := diffCase{size: 12*mib + 512*1024, setup: []string{"direct init -s LS:0:%F:2M -o 1", "direct init -r LS:r3:%F:3M", "direct init -r LS:r4:%F:4M", "direct init -r LS:r6:%F:6M",
		"direct init -r LS:r7:%F:7M -z 1", "direct init -r LS:r8:%F:8M", "direct init -r %N:%N:%F:9M", "direct format -x LS:%F:10485760", "direct update -x LS:%F:10485760 -e foo:13M",
		"direct acquire_id -s LS:3:%F:2M -o 1 -e h3", "direct acquire_id -s LS:2000:%F:2M -o 1 -e h2000", "direct acquire -i 3 -g 1 -r LS:r3:%F:3M"}}
	for _, r := range []string{"", ":0", ":1M", ":2M", ":2097152", ":2M:1M", ":2M:2M", ":2M:512", ":2M:511", ":2M:1000", ":2M:1500000", ":3M:5M", ":3M:0", ":3M:100M", ":20M", ":abc", "::3M",
		":3M:1M:5", ":3m:1M", ":3M:1m", ":5M", ":5M:4M", ":0:12M", ":2098176:1M", ":2097153:1M", ":3000000", ":-1", ":6M", ":7M", ":7M:2M", ":9M", ":10M", ":10M:1M", ":12M", ":12M:1M", ":11M:2M"} {
		for _, f := range []string{"", " -f 0", " -f 1", " -f 2", " -f x", " -f 3"} {
			c.lines = append(c.lines, "direct dump %F"+r+f)
		}
	}
	c.lines = append(c.lines, "direct dump ''", "direct dump %D", "direct dump %D/none", "direct dump /dev/null", "direct dump %F:2M -Z 512 -A 1M", "direct dump %F:2M -Z 512",
		"direct dump %F:2M -A 1M", "direct dump %F:0:12M -Z 512 -A 1M")
	t.Run("all", c.run)
}

// TestSanlock_dump_damaged: random bytes of random sectors are spoiled, and both print the same.
func TestSanlock_dump_damaged(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	for _, g := range []leases.Geometry{leases.Geometry512, {SectorSize: 4096, AlignSize: mib}, {SectorSize: 4096, AlignSize: 2 * mib}} {
		t.Run(fmt.Sprint(g), func(t *testing.T) {
			t.Parallel()
			a := g.AlignSize
			opts := fmt.Sprintf(" -Z %d -A %dM", g.SectorSize, a/mib)
			file, _ := twoFiles(t, 5*a, "direct init -s LS:0:%F:0 -o 1"+opts, fmt.Sprintf("direct init -r LS:r1:%%F:%d", a)+opts, fmt.Sprintf("direct init -r LS:r2:%%F:%d", 2*a)+opts,
				fmt.Sprintf("direct format -x LS:%%F:%d", 3*a)+opts, "direct acquire_id -s LS:3:%F:0 -o 1 -e h3", fmt.Sprintf("direct acquire -i 3 -g 1 -r LS:r1:%%F:%d", a),
				fmt.Sprintf("direct acquire -i 5 -g 1 -r LS:r2:%%F:%d", 2*a), fmt.Sprintf("direct update -x LS:%%F:%d -e foo:%d", 3*a, 5*a))
			rnd := rand.New(rand.NewPCG(7, uint64(a)))
			for range 60 {
				spoil(t, rnd, file, g)
				for _, f := range []string{"0", "2"} {
					line := fmt.Sprintf("direct dump %%F:0:%d -f %s%s", 5*a, f, opts)
					want, got := theirs(t, file, line), ours(t, file, line)
					if want != got {
						t.Fatalf("%s\n--- sanlock, status %d\n%s--- ours, status %d\n%s", line, want.status, want.out, got.status, got.out)
					}
				}
			}
		})
	}
}

// spoil sets some field of one of the first sectors of an area. Names keep their length, for sanlock prints beyond them.
func spoil(t *testing.T, rnd *rand.Rand, file string, g leases.Geometry) {
	t.Helper()
	at := rnd.Int64N(4)*g.AlignSize + rnd.Int64N(9)*int64(g.SectorSize)
	var v [8]byte
	binary.LittleEndian.PutUint64(v[:], []uint64{0, 1, 3, 1 << 40, rnd.Uint64()}[rnd.IntN(5)])
	field := []int64{4, 8, 16, 24, 32, 40, 48, 128, 136, 152, 168, 176, 184, 256, 300}[rnd.IntN(15)]
	overwrite(t, file, at+field, v[:])
}

// TestSanlock_dump_scripts are the six cases that scripts rely on: a lockspace and a resource are initialised and dumped
// whole, between two others, with a hole, from before the first one, and under a path with a colon; bytes behind what was
// written stay.
func TestSanlock_dump_scripts(t *testing.T) {
	t.Parallel()
	guard := strings.Repeat("guard", 100)
	for _, run := range []struct {
		name string
		f    func(testing.TB, string, string) sanlockResult
	}{{"ours", ours}, {"sanlock", theirs}} {
		t.Run(run.name, func(t *testing.T) {
			t.Parallel()
			if run.name == "sanlock" {
				testutil.NeedTool(t, "sanlock")
			}
			do := func(file, line string) string {
				r := run.f(t, file, line)
				if r.status != 0 {
					t.Fatalf("%s: status %d\n%s", line, r.status, r.out)
				}
				return r.out
			}
			t.Run("init lockspace", func(t *testing.T) { initAndGuard(t, do, "direct init -s name:1:%F:0", guard, leases.MagicHost) })
			t.Run("init resource", func(t *testing.T) { initAndGuard(t, do, "direct init -r ls:res:%F:0", guard, leases.MagicResource) })
			t.Run("dump lockspace", func(t *testing.T) { dumpLockspace(t, do) })
			t.Run("dump resources", func(t *testing.T) { dumpResources(t, do) })
			t.Run("start before", func(t *testing.T) { dumpStartBefore(t, do) })
			t.Run("escaped colon", func(t *testing.T) { dumpEscapedColon(t, do) })
		})
	}
}

const dumpHead = "  offset                            lockspace                                         resource  timestamp  own  gen lver\n"

func dumpLine(off int, space, res, rest string) string {
	return fmt.Sprintf("%08d %36s %48s %s\n", off, space, res, rest)
}

func newFile(t testing.TB, size int64, name string) string {
	t.Helper()
	file := t.TempDir() + "/" + name
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	return file
}

func initAndGuard(t *testing.T, do func(string, string) string, line, guard string, magic uint32) {
	file := newFile(t, 2*mib, "area")
	overwrite(t, file, mib, []byte(guard))
	if out := do(file, line); out != "init done 0\n" {
		t.Errorf("%q", out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if leases.MagicOf(b) != magic || string(b[mib:mib+len(guard)]) != guard || len(b) != 2*mib {
		t.Errorf("magic %#x, guard %q, %d bytes", leases.MagicOf(b), b[mib:mib+8], len(b))
	}
}

func dumpLockspace(t *testing.T, do func(string, string) string) {
	file := newFile(t, mib, "lockspace")
	do(file, "direct init -s name:1:%F:0")
	if out := do(file, "direct dump %F:0:1M"); out != dumpHead {
		t.Errorf("host ids that were never taken are shown:\n%s", out)
	}
}

func dumpResources(t *testing.T, do func(string, string) string) {
	file := newFile(t, 8*mib, "resources")
	want := dumpHead
	for _, i := range []int{0, 1, 2, 5} { // with a hole
		do(file, fmt.Sprintf("direct init -r ls:res%d:%%F:%dM", i, i))
		want += dumpLine(i*mib, "ls", fmt.Sprint("res", i), "0000000000 0000 0000 0")
	}
	if out := do(file, "direct dump %F:0:6M"); out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if out := do(file, "direct dump %F:1M:1048576"); out != dumpHead+dumpLine(mib, "ls", "res1", "0000000000 0000 0000 0") {
		t.Errorf("one of them:\n%s", out)
	}
}

func dumpStartBefore(t *testing.T, do func(string, string) string) {
	file := newFile(t, 8*mib, "resources")
	do(file, "direct init -r ls:res:%F:3M")
	if out := do(file, "direct dump %F:1M:4M"); out != dumpHead+dumpLine(3*mib, "ls", "res", "0000000000 0000 0000 0") {
		t.Errorf("got\n%s", out)
	}
}

func dumpEscapedColon(t *testing.T, do func(string, string) string) {
	file := newFile(t, mib, "with:colon")
	escaped := strings.ReplaceAll(file, ":", `\:`)
	do(escaped, "direct init -r ls:res:%F:0")
	if out := do(escaped, "direct dump %F:0:1M"); out != dumpHead+dumpLine(0, "ls", "res", "0000000000 0000 0000 0") {
		t.Errorf("got\n%s", out)
	}
}
