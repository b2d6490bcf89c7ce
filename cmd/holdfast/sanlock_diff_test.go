package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// The judge of `holdfast sanlock direct` is the real program: the same arguments on two copies of one file must give the
// same output, the same exit status and the same bytes, clock values aside.

// words splits a command line. ” is an empty word; %F is the file, %D its directory, %N a name of 48 bytes, %M of 47.
func words(line, file string) []string {
	w := strings.Fields(line)
	r := strings.NewReplacer("%F", file, "%D", filepath.Dir(file), "%M", strings.Repeat("0123456789abcdef", 3)[1:], "%N", strings.Repeat("0123456789abcdef", 3), "''", "")
	for i := range w {
		w[i] = r.Replace(w[i])
	}
	return w
}

type sanlockResult struct {
	out    string
	status int
}

// theirs runs the real program. A signal is status -1.
func theirs(t testing.TB, file, line string) sanlockResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sanlock", words(line, file)...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	r := sanlockResult{out: string(out)}
	if exit != nil {
		r.status = exit.ExitCode()
	}
	return r
}

// ours runs the same within this process.
func ours(t testing.TB, file, line string) sanlockResult {
	t.Helper()
	var out, errs bytes.Buffer
	status := runSanlock(t.Context(), words(line, file), &out, &errs)
	return sanlockResult{out.String(), status}
}

var (
	clockField = regexp.MustCompile(`(?m)^((write_)?timestamp|extra3|checksum) (0x)?[0-9a-f]+$`)
	dumpTime   = regexp.MustCompile(` \d{10} `) // seconds since the machine booted: of any length
	dblockSum  = regexp.MustCompile(`inp3 \d+ lver (\d+) sum [0-9a-f]+`)
)

// plain takes clock values and what depends on them out of an output. A free timestamp stays what it is.
func plain(out, file string) string {
	out = strings.ReplaceAll(out, file, "FILE")
	out = strings.ReplaceAll(out, filepath.Dir(file), "DIR")
	if i := strings.Index(out, "magic 0x"); i >= 0 && !strings.Contains(out, "done 0") {
		return out[:i] // what could not be read: there it is whatever was on the stack
	}
	out = clockField.ReplaceAllStringFunc(out, func(s string) string {
		name, v, _ := strings.Cut(s, " ")
		if v == "0" {
			return s
		}
		return name + " CLOCK"
	})
	out = dumpTime.ReplaceAllStringFunc(out, func(s string) string {
		if strings.Trim(s, " 0") == "" {
			return s
		}
		return " CLOCK "
	})
	return dblockSum.ReplaceAllString(out, "inp3 CLOCK lver $1 sum CLOCK")
}

// TestPlain_dumpTime: whatever the machine's uptime, and a free lease's 0 is not a clock value.
func TestPlain_dumpTime(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"r 0000000572 0003": "r CLOCK 0003", "r 0000012345 0003": "r CLOCK 0003", "r 1234567890 0003": "r CLOCK 0003",
		"r 0000000000 0003": "r 0000000000 0003"} {
		if got := plain(in, "lun"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// still takes clock values out of the bytes of a file: records with a good checksum are written again with 1 for any
// timestamp that is not 0.
func still(b []byte) []byte {
	for at := 0; at+512 <= len(b); at += 512 {
		s := b[at : at+512]
		var l leases.Leader
		if l.Decode(s) == nil && l.Intact() {
			switch l.Magic {
			case leases.MagicHost, leases.MagicResource, leases.MagicCleared:
				l.Timestamp, l.WriteTimestamp = min(l.Timestamp, 1), min(l.WriteTimestamp, 1)
				l.Resource = leases.RawName(l.Resource.String()) // sanlock leaves the tail of a longer name behind
				l.Encode(s)
				continue
			}
		}
		if leases.MagicOf(s) == leases.MagicRequest {
			clear(s[20:24]) // sanlock's format writes what was on its stack
		}
		var d leases.DBlock
		if d.Decode(s) == nil && d.SumOK && d.Inp3 != 0 {
			d.Inp3 = 1
			d.Encode(s)
		}
	}
	return b
}

// twoFiles makes two files in directories of their own and runs the set-up on each with the real program.
func twoFiles(t testing.TB, size int64, setup ...string) (a, b string) {
	t.Helper()
	a, b = filepath.Join(t.TempDir(), "lun"), filepath.Join(t.TempDir(), "lun")
	if err := os.WriteFile(a, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(a, size); err != nil {
		t.Fatal(err)
	}
	for _, s := range setup {
		theirs(t, a, s)
	}
	data, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// sameBehaviour runs line on copies of one file by both programs and compares everything.
func sameBehaviour(t testing.TB, theirFile, ourFile, line string) {
	t.Helper()
	theirResult := make(chan sanlockResult)
	go func() { theirResult <- theirs(t, theirFile, line) }() // side by side, for some wait long
	got := ours(t, ourFile, line)
	want := <-theirResult
	if want.status == -1 { // it crashed
		if got.status != 1 {
			t.Errorf("%s crashes sanlock; ours: status %d\n%s", line, got.status, got.out)
		}
		return
	}
	if w, g := plain(want.out, theirFile), plain(got.out, ourFile); w != g || want.status != got.status {
		t.Errorf("%s\n--- sanlock, status %d\n%s--- ours, status %d\n%s", line, want.status, w, got.status, g)
	}
	if w := words(line, ""); len(w) > 1 && w[1] != "lookup" && w[1] != "dump" && w[1] != "read_leader" {
		sameFiles(t, theirFile, ourFile, line)
	}
}

func sameFiles(t testing.TB, theirFile, ourFile, what string) {
	t.Helper()
	w, err := os.ReadFile(theirFile)
	if err != nil {
		t.Fatal(err)
	}
	g, err := os.ReadFile(ourFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(w) != len(g) {
		t.Fatalf("%s: %d bytes, sanlock's file has %d", what, len(g), len(w))
	}
	for at := 0; at < len(w); at += 512 {
		a, b := w[at:min(at+512, len(w))], g[at:min(at+512, len(g))]
		if !bytes.Equal(a, b) && !bytes.Equal(still(a), still(b)) {
			t.Fatalf("%s: sector at %#x\n--- sanlock\n% x\n--- ours\n% x", what, at, a[:min(208, len(a))], b[:min(208, len(b))])
		}
	}
}

// diffCase is one set-up and the lines that are then run on it, one after the other.
type diffCase struct {
	name  string
	size  int64
	setup []string
	lines []string
}

func (c *diffCase) run(t *testing.T) {
	t.Parallel()
	a, b := twoFiles(t, c.size, c.setup...)
	for _, l := range c.lines {
		sameBehaviour(t, a, b, l)
	}
}

const mib = 1 << 20

// TestSanlock_wrongUsage: options and strings that cannot be right.
func TestSanlock_wrongUsage(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	c := diffCase{size: 4 * mib, setup: []string{"direct init -s LS:0:%F:0 -o 1", "direct init -r LS:r:%F:1M"}}
	c.lines = append(c.lines,
		"direct foo", "direct -h", "direct --help", "direct read",
		"direct init", "direct read_leader", "direct acquire_id", "direct renew_id", "direct release_id", "direct format",
		"direct lookup", "direct update", "direct rebuild", "direct dump",
		"direct init -s LS:0:%F:0 -q", "direct init -s LS:0:%F:0 -o", "direct init -s LS:0:%F:0 o", "direct read_leader -q 1",
		"direct read_leader -", "direct read_leader ''", "direct read_leader -o5 -s LS:1:%F:0", "direct read_leader --help",
		"direct read_leader -c -s LS:1:%F:0", "direct read_leader -D -s LS:1:%F:0", "direct dump -f 1 %F", "direct dump %F extra",
		"direct init -s LS:0:%F:0 -Z 512 -A 2M", "direct init -s LS:0:%F:0 -Z 512 -A 3M", "direct init -s LS:0:%F:0 -A 8M",
		"direct init -s LS:0:%F:0 -Z 4096", "direct init -r LS:r:%F:1M -Z 4096", "direct init -s LS:0:%F:0 -Z 1024 -A 1M",
		"direct format -x LS:%F:0 -Z 4096", "direct format -x LS:%F:0 -A 1M",
		"direct read_leader -s LS:1:%F:0 -Z 512 -A 2M", "direct read_leader -s LS:1:%F:0 -A 3M", "direct read_leader -s LS:1:%F:0 -Z 4096",
		"direct init -s LS:0", "direct init -s LS", "direct init -s ''", "direct init -s LS:0:%D/missing:0", "direct init -s LS:0:%D:0",
		"direct init -s LS:1::0", "direct init -s LS:1:/dev/null:0", "direct init -r LS:r:/dev/null:0", "direct format -x LS:/dev/null:0",
		"direct init -r LS:r:%F:abc", "direct init -r LS:r:%F:", "direct init -r LS:r:%F", "direct init -r LS:r", "direct init -r LS", "direct init -r ''",
		"direct init -r LS:r:%F:-1048576", "direct init -r LS:r:%F:100", "direct init -r LS:r:%F:1m", "direct init -r LS:r:%D:0",
		"direct init -r LS:r:%D/missing:0", "direct init -s LS:1:%F:1", "direct init -s LS:0:%F:-1M", "direct init -r %Nx:r:%F:0", "direct init -r LS:%Nx:%F:0",
		"direct read_leader -r LS:r:%F:1:SH:x", "direct read_leader -r LS:r:%F:x1",
	)
	t.Run("all", c.run)
}

// TestSanlock_reading: leaders read from wherever one may point.
func TestSanlock_reading(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	c := diffCase{size: 4 * mib, setup: []string{"direct init -s LS:0:%F:0 -o 1", "direct init -r LS:r:%F:1M", "direct init -r LS:c:%F:2M -z 1",
		"direct acquire_id -s LS:3:%F:0 -o 1 -e host3", "direct acquire -r LS:r:%F:1M -i 3 -g 1"}}
	for _, s := range []string{"LS:1:%F:0", "LS:3:%F:0", "LS:0:%F:0", "LS:2000:%F:0", "LS:2001:%F:0", "LS:2049:%F:0", "LS:-1:%F:0", "LS:4294967297:%F:0",
		"LS:1:%F:abc", "LS:1:%F:0:x", "LS:1", "LS", "1", "''", ":::", "LS:1:%D:0", "LS:1:%D/none:0", "LS:1:%F:512", "LS:1:%F:1", "LS:1:%F:100M", "LS:1:%F:4M",
		"LS:1:%F:3M", "XX:1:%F:0", "LS:1x:%F:0", "LS:0x1:%F:0", "LS:010:%F:0", "LS:1:%F:0x1", "LS:1:%F:010", "LS:1:%F:1xM", "LS:1:%F:512x", "LS:1:%F:1Mx",
		"LS:99999999999999999999:%F:0", "LS:1:%F:99999999999999999999", "LS:1:%F:4193792"} {
		c.lines = append(c.lines, "direct read_leader -s "+s)
		if !strings.Contains(s, ":512") { // shifted by a sector: sanlock writes into another host's record
			c.lines = append(c.lines, "direct renew_id -o 5 -s "+s, "direct release_id -o 5 -s "+s) // no I/O of a busy machine takes so long
		}
	}
	for _, r := range []string{"LS:r:%F:1M", "LS:r:%F:1M:x", "LS:r:%F:1M:7", "LS:r:%F:1M:SH", "LS:q:%F:1M", "XX:r:%F:1M", "LS:c:%F:2M", "LS:r:%F:abc", "LS:r", "LS", "1", "''",
		"LS:r:%D:0", "LS:r:%D/none:0", "LS:r:%F:512", "LS:r:%F:1", "LS:r:%F:100M", "LS:r:%F:4M", "LS:r:%F:3M", "LS:r:%F:0", ":::", "LS:r:%F:+1M", "LS:r:%F:-0",
		"LS:r:%F:99999999999999999999", "LS:r:%F:1xM", "LS:r:%F:0xM", "LS:r:%F:10x", "LS:r:%F:4193792"} {
		c.lines = append(c.lines, "direct read_leader -r "+r)
	}
	t.Run("all", c.run)
}

// TestSanlock_init: whole files, with guard bytes in front and behind, in all geometries.
func TestSanlock_init(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	for _, g := range []string{"-Z 512 -A 1M", "-Z 4096 -A 1M", "-Z 4096 -A 2M", "-Z 4096 -A 4M", "-Z 4096 -A 8M", ""} {
		for _, n := range []string{"1", "10", "20"} {
			c := diffCase{name: g + " " + n, size: 25 * mib, lines: []string{
				"direct init -s LS:0:%F:8M -o " + n + " " + g, "direct init -r LS:r:%F:16M -o " + n + " " + g,
				"direct init -r %N:%N:%F:16M -n 4 " + g, "direct init -s %N:1:%F:8M -o " + n + " " + g, "direct init -r LS:r:%F:16M -n 4000 " + g,
				"direct init -r LS:r:%F:16M -n x " + g, "direct init -r LS:r:%F:16M -n 5000000000 " + g, "direct init -r LS:r:%F:16M -z 1 -n 7 " + g,
				"direct init -s LS:1:%F:8M -z 1 " + g, "direct init -s LS:1:%F:8M -o x " + g, "direct init -s LS:1:%F:8M -o 255 " + g,
			}}
			t.Run(c.name, c.run)
		}
	}
	t.Run("places", (&diffCase{size: 2 * mib, lines: []string{
		"direct init -r LS:r1:%F:0x100000", "direct init -r LS:r1:%F:512", "direct init -r LS:r1:%F:4M", "direct init -s LS:r1:%F:7M", "direct init -r LS::%F:0",
		"direct init -r :r1:%F:0", "direct init -s :1:%F:0", "direct init -s LS::%F:0", "direct init -s LS:x:%F:1M", "direct init -s %Nx:1:%F:0",
		"direct init -s LS:1:%F:0:77", "direct init -s LS:1:%F:0 -r LS:r:%F:0", "direct init -r LS:r:%F:0 -s LS:1:%F:0", "direct init -r LS:r:%F:0 -r LS:s:%F:1M",
		"direct init -r LS:r1:%F:2M:5", "direct init -r LS:r1:%F:2M:SH", "direct init -r LS:r1:%F:2M:x", "direct init -r LS:r:%F:0 -a 0", "direct init -r LS:r:%F:0 -e foo -i 3 -g 9",
	}}).run)
	t.Run("empty file", (&diffCase{size: 0, lines: []string{"direct read_leader -s LS:1:%F:0", "direct read_leader -r LS:r:%F:0", "direct dump %F", "direct lookup -x LS:%F:0",
		"direct init -s LS:0:%F:0", "direct init -r LS:r:%F:1M", "direct dump %F"}}).run)
	t.Run("odd size", (&diffCase{size: 1000, lines: []string{"direct read_leader -s LS:1:%F:0", "direct read_leader -r LS:r:%F:0", "direct dump %F", "direct lookup -x LS:%F:0",
		"direct init -s LS:0:%F:0"}}).run)
}

// TestSanlock_resources: taking leases for hosts.
func TestSanlock_resources(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	for _, g := range []string{"-Z 512 -A 1M", "-Z 4096 -A 1M", "-Z 4096 -A 2M", "-Z 4096 -A 4M", "-Z 4096 -A 8M"} {
		c := diffCase{name: g, size: 24 * mib, setup: []string{"direct init -s LS:0:%F:0 -o 1 " + g, "direct init -r LS:r:%F:8M " + g, "direct init -r LS:n4:%F:16M -n 4 " + g, "direct init -r LS:c:%F:24M -z 1 " + g}}
		for _, l := range []string{"-r LS:r:%F:8M -i 3 -g 1", "-r LS:r:%F:8M -i 3 -g 1", "-r LS:r:%F:8M -i 3 -g 2", "-r LS:r:%F:8M -i 3 -g 1", "-r LS:r:%F:8M -i 5 -g 1",
			"-r LS:r:%F:8M:SH -i 5 -g 1", "-r LS:r:%F:8M -i 2001 -g 1", "-r LS:q:%F:8M -i 5 -g 1", "-r XX:r:%F:8M -i 5 -g 1", "-r LS:r:%F:0 -i 5 -g 1", "-r LS:r:%F:64M -i 5 -g 1",
			"-r LS:n4:%F:16M -i 5 -g 1", "-r LS:n4:%F:16M -i 4 -g 7", "-r LS:r:%D:0 -i 1 -g 1", "-r LS:r:%D/none:0 -i 1 -g 1", "-r LS:r:%F:512 -i 1 -g 1", "-r LS:r:%F:1 -i 1 -g 1",
			"-r LS:r:%F:3M -i 1 -g 1", "-r LS:r -i 1 -g 1", "-r LS:c:%F:24M -i 1 -g 1", "-r LS:n4:%F:16M:9 -i 4 -g 7", "-r LS:n4:%F:16M -i 4 -g 7 -o 1"} {
			c.lines = append(c.lines, "direct acquire "+l, "direct read_leader "+strings.Fields(l)[0]+" "+strings.Fields(l)[1])
		}
		c.lines = append(c.lines, "direct release -r LS:q:%F:8M -i 3 -g 1", "direct release -r XX:r:%F:8M -i 3 -g 1", "direct release -r LS:r:%D/none:0 -i 3 -g 1",
			"direct release -r LS:r:%F:64M -i 3 -g 1", "direct release -r LS:r:%F:1 -i 3 -g 1", "direct release -r LS:r:%D:0 -i 3 -g 1", "direct release -r LS:r -i 1 -g 1",
			"direct release -r LS:r:%F:0 -i 3 -g 1", "direct dump %F:8M:16M -f 2")
		t.Run(c.name, c.run)
	}
}

// TestSanlock_hostIDs: taking, renewing and freeing host ids that are free or ours.
func TestSanlock_hostIDs(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	for _, g := range []string{"-Z 512 -A 1M", "-Z 4096 -A 1M", "-Z 4096 -A 2M", "-Z 4096 -A 4M", "-Z 4096 -A 8M"} {
		c := diffCase{name: g, size: 9 * mib, setup: []string{"direct init -s LS:0:%F:0 -o 1 " + g}, lines: []string{
			"direct acquire_id -s LS:3:%F:0 -o 1 -e host3", "direct acquire_id -s LS:3:%F:0 -o 2 -e host3", "direct renew_id -s LS:3:%F:0 -o 1 -e other",
			"direct renew_id -s LS:3:%F:0 -o 2", "direct renew_id -s LS:4:%F:0", "direct release_id -s LS:4:%F:0", "direct release_id -s LS:3:%F:0 -o 1 -e you",
			"direct release_id -s LS:3:%F:0", "direct renew_id -s LS:3:%F:0 -o 1", "direct release_id -s LS:3:%F:0", "direct acquire_id -s LS:3:%F:0 -o 1 -e a:b",
			"direct acquire_id -s LS:0:%F:0 -o 1 -e x", "direct acquire_id -s LS:2001:%F:0 -o 1 -e x", "direct acquire_id -s XX:3:%F:0 -o 1 -e x", "direct acquire_id -s LS:3:%D/none:0 -e x",
			"direct acquire_id -s LS:250:%F:0 -o 1 -e %N", "direct acquire_id -s LS:249:%F:0 -o 1 -e %Nx", "direct acquire_id -s LS:1:%F:8M -e x", "direct acquire_id -s LS:1:%F:1 -e x",
			"direct acquire_id -s LS:1:%F:64M -e x", "direct acquire_id -r LS:1:%F:0 -e x", "direct dump %F -f 1",
		}}
		t.Run(c.name, c.run)
	}
}

// TestSanlock_index: the resource index.
func TestSanlock_index(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	for _, g := range []struct{ opts, size string }{{"-Z 512 -A 1M", "1"}, {"-Z 4096 -A 1M", "1"}, {"-Z 4096 -A 2M", "2"}, {"-Z 4096 -A 4M", "4"}, {"-Z 4096 -A 8M", "8"}, {"", "1"}} {
		var a int64
		fmt.Sscan(g.size, &a)
		at := func(n int64) string { return fmt.Sprint(n * a * mib) }
		x := "-x LS:%F:" + at(1)
		c := diffCase{name: g.opts, size: 12 * a * mib, lines: []string{"direct lookup " + x, "direct format " + x + " " + g.opts, "direct lookup " + x, "direct lookup " + x + " -e foo",
			"direct lookup " + x + " -e foo:" + at(3), "direct lookup " + x + " -e :" + at(3), "direct update " + x, "direct update " + x + " -e foo", "direct update " + x + " -e foo:" + at(3),
			"direct update " + x + " -e foo:" + fmt.Sprint(4*a) + "M", "direct update " + x + " -e bar:" + at(3), "direct update " + x + " -e %M:" + at(6),
			"direct lookup " + x, "direct lookup " + x + " -e foo", "direct lookup " + x + " -e bar", "direct lookup " + x + " -e bar:" + at(3), "direct lookup " + x + " -e bar:" + at(4),
			"direct lookup " + x + " -e :" + at(4), "direct lookup " + x + " -e :" + at(5), "direct lookup " + x + " -e :100", "direct lookup " + x + " -e :", "direct lookup " + x + " -e x:0",
			"direct lookup " + x + " -e bar:0", "direct lookup " + x + " -e %M", "direct lookup " + x + " -e %N", "direct update " + x + " -e foo -z 1", "direct update " + x + " -e bar:" + at(3) + " -z 1",
			"direct update " + x + " -e wrong:" + at(4) + " -z 1", "direct update " + x + " -e foo:" + at(4) + " -z 1", "direct update " + x + " -e :" + at(6) + " -z 1", "direct update " + x + " -e foo:4194305",
			"direct update " + x + " -e :" + at(5), "direct lookup -x LX:%F:" + at(1), "direct lookup -x LS:%F:0", "direct lookup -x LS:%F:" + at(2), "direct lookup -x LS:%F:1000M",
			"direct lookup -x LS", "direct lookup -x LS:%D:0", "direct lookup -x LS:%D/none:0",
			"direct init -r LS:q1:%F:" + at(4) + " " + g.opts, "direct init -r LS:q2:%F:" + at(6) + " -z 1 " + g.opts, "direct init -r LS:q3:%F:" + at(7) + " " + g.opts,
			"direct init -r XX:q4:%F:" + at(8) + " " + g.opts, "direct init -s LS:1:%F:" + at(9) + " " + g.opts, "direct init -r LS:q1:%F:" + at(11) + " " + g.opts,
			"direct dump %F:" + at(1) + ":" + at(11) + " -f 1", "direct rebuild " + x, "direct dump %F:" + at(1) + ":" + at(11) + " -f 1", "direct lookup " + x, "direct lookup " + x + " -e q1",
			"direct rebuild -x LX:%F:" + at(1), "direct rebuild -x LS:%F:0", "direct format -x LS:%F:1048577", "direct format -x LS:%D/none:0", "direct format -x LS:%F:-1", "direct format -x LS:%D:0",
			"direct format -x LS:%F:" + at(12) + " " + g.opts, "direct format -x %Nx:%F:" + at(1) + " " + g.opts}}
		t.Run(c.name, c.run)
	}
}
