package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// expect runs one of our command lines.
func expect(t testing.TB, file, line, out string, status int) {
	t.Helper()
	r := ours(t, file, line)
	if got := plain(r.out, file); got != out || r.status != status {
		t.Errorf("%s: status %d, %q; want %d, %q", line, r.status, got, status, out)
	}
}

// TestSanlock_release_releases: where sanlock does nothing and says 0, the lease is free afterwards, for both programs.
func TestSanlock_release_releases(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	for _, g := range []string{"-Z 512 -A 1M", "-Z 4096 -A 2M"} {
		file, _ := twoFiles(t, 12*mib, "direct init -r LS:r:%F:2M -n 9 "+g, "direct acquire -r LS:r:%F:2M -i 3 -g 4")
		for _, who := range []string{"-i 4 -g 4", "-i 3 -g 3", "-i 3 -g 5", ""} {
			want := "release done -251\n"
			if who == "" {
				want = "release done -22\n"
			}
			expect(t, file, "direct release -r LS:r:%F:2M "+who, want, 1)
		}
		expect(t, file, "direct acquire -r LS:r:%F:2M -i 5 -g 1", "acquire done -241\n", 1)
		expect(t, file, "direct release -r LS:r:%F:2M -i 3 -g 4", "release done 0\n", 0)
		expect(t, file, "direct release -r LS:r:%F:2M -i 3 -g 4", "release done -251\n", 1)
		if r := theirs(t, file, "direct read_leader -r LS:r:%F:2M"); !strings.Contains(r.out, "owner_id 3\n") || !strings.Contains(r.out, "timestamp 0\n") ||
			!strings.Contains(r.out, "lver 1\n") {
			t.Errorf("after our release:\n%s", r.out)
		}
		if r := theirs(t, file, "direct acquire -r LS:r:%F:2M -i 5 -g 1"); r.out != "acquire done 0\n" {
			t.Errorf("sanlock cannot take what we released: %s", r.out)
		}
		expect(t, file, "direct acquire -r LS:r:%F:2M -i 6 -g 1", "acquire done -241\n", 1)
	}
}

// TestSanlock_safer: what is refused although sanlock writes, and nothing is written.
func TestSanlock_safer(t *testing.T) {
	t.Parallel()
	file := newFile(t, 12*mib, "lun")
	for _, l := range []string{"direct init -s LS:0:%F:0 -o 1", "direct init -r LS:r:%F:1M -z 0", "direct format -x LS:%F:2M", "direct update -x LS:%F:2M -e foo:4M -z 0"} {
		if r := ours(t, file, l); r.status != 0 {
			t.Fatal(l, r)
		}
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"acquire -r LS:r:%F:1M":                         "acquire done -22\n",
		"acquire":                                       "acquire done -22\n",
		"release":                                       "release done -22\n",
		"acquire -s LS:1:%F:0 -i 1 -g 1":                "acquire done -22\n",
		"renew_id -s LS:1:%F:512":                       "rewew_id done -22\n",
		"release_id -s LS:1:%F:512":                     "release_id done -22\n",
		"update -x LS:%F:2M -e foo:2M":                  "update done -277\n",
		"update -x LS:%F:2M -e foo:3M":                  "update done -277\n",
		"update -x LS:%F:2M -e foo:2052M":               "update done -277\n",
		"update -x LS:%F:2M -e foo:5000M":               "update done -277\n",
		"init -s LS:0:%F:0 -o 256":                      "init done -22\n",
		"init -s LS:0:%F:0 -o -1":                       "init done -22\n",
		"init -r LS:r:%F:1M:%F:5M":                      "init done -22\n",
		"acquire -r LS:r:%F:1M:%F:5M -i 1 -g 1":         "acquire done -22\n",
		"acquire -r LS:r:%F:1M -i 4294967297000 -g 1":   "acquire done -228\n",
		"acquire_id -s LS:1:%F:1M -e x":                 "acquire_id done -223\n",
		"read_leader -s XX:1:%F:4M":                     "read_leader done -1\n",
		"acquire_id -s LS:18446744073709551615:%F:0":    "acquire_id done -22\n",
		"lookup -x LS:%F:2M -e nope":                    "lookup done -2\n",
		"init -r LS:r:nbd+unix:///x?socket=/none:1M":    "resource arg parse error -1\n\ninit done -22\n",
		"renew_id -s LS:1:nbd\\://127.0.0.1\\:1/x:0":    "rewew_id done -19\n",
		"read_leader -r LS:r:nbd\\://127.0.0.1\\:1/x:0": "read_leader done -111\n",
	} {
		expect(t, file, "direct "+line, want, 1)
	}
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("something was written")
	}
	expect(t, file, "direct lookup -x LS:%F:2M -e foo", "lookup done 0\nname foo offset 4194304\n", 0)
	expect(t, file, "direct init -r LS:r:%F:1M -n -1", "init done 0\n", 0)
	if r := ours(t, file, "direct read_leader -r LS:r:%F:1M"); !strings.Contains(r.out, "num_hosts 2000\n") {
		t.Error(r.out)
	}
}

// TestSanlock_otherActions: what is not here says so.
func TestSanlock_otherActions(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"client", "status"}, {"daemon", "-D"}, {"add_lockspace"}, {"direct"}, {"direct", "next_free", "x"}} {
		status, out, errs := runCLI(t, append([]string{"sanlock"}, args...)...)
		if status != exitFailed || out+errs == "" {
			t.Errorf("%q: status %d, %q, %q", args, status, out, errs)
		}
	}
	for _, args := range [][]string{{}, {"help"}, {"--help"}, {"version"}, {"-V"}} {
		if status, out, _ := runCLI(t, append([]string{"sanlock"}, args...)...); status != exitOK || out == "" {
			t.Errorf("%q: status %d, %q", args, status, out)
		}
	}
}

// TestSanlock_argv0: the program under sanlock's name.
func TestSanlock_argv0(t *testing.T) {
	t.Parallel()
	file := newFile(t, mib, "lun")
	cmd := exec.CommandContext(testutil.Deadline(t), os.Args[0])
	cmd.Args = []string{"/usr/sbin/sanlock", "direct", "init", "-r", "LS:r:" + file + ":0"}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "init done 0\n" {
		t.Errorf("%v: %s", err, out)
	}
	cmd = exec.CommandContext(testutil.Deadline(t), os.Args[0])
	cmd.Args = []string{"sanlock", "direct", "read_leader", "-r", "LS:q:" + file + ":0"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "read_leader done -227\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSanlock_otherHost: a host id of another name is waited for, by both programs after both, and refused if it is alive.
// Each wait lasts 8N + 60 s.
func TestSanlock_otherHost(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for more than a minute")
	}
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	type program func(testing.TB, string, string) sanlockResult
	for _, c := range []struct {
		name        string
		first, then program
		alive       bool
		want        string
	}{
		{"ours after sanlock, dead", theirs, ours, false, "acquire_id done 0\n"},
		{"sanlock after ours, dead", ours, theirs, false, "acquire_id done 0\n"},
		{"ours after sanlock, alive", theirs, ours, true, "acquire_id done -262\n"},
		{"sanlock after ours, alive", ours, theirs, true, "acquire_id done -262\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := newFile(t, mib, "ids")
			c.first(t, file, "direct init -s LS:0:%F:0 -o 1")
			c.first(t, file, "direct acquire_id -s LS:3:%F:0 -o 1 -e one")
			done := make(chan sanlockResult, 1)
			start := time.Now()
			go func() { done <- c.then(t, file, "direct acquire_id -s LS:3:%F:0 -o 1 -e two") }()
			for range time.Tick(3 * time.Second) {
				select {
				case r := <-done:
					if d := time.Since(start); r.out != c.want || d < 68*time.Second || d > 90*time.Second {
						t.Errorf("after %v: %q, want %q", d, r.out, c.want)
					}
					generation(t, file, c.alive)
					return
				default:
				}
				if c.alive {
					c.first(t, file, "direct renew_id -s LS:3:%F:0 -o 1")
				}
			}
		})
	}
}

// generation: a host id that changed hands has the next generation.
func generation(t *testing.T, file string, alive bool) {
	want := "owner_generation 2\n"
	if alive {
		want = "owner_generation 1\n"
	}
	if r := theirs(t, file, "direct read_leader -s LS:3:%F:0"); !strings.Contains(r.out, want) {
		t.Errorf("want %s%s", want, r.out)
	}
}

// TestSanlock_index_histories: random updates, lookups and rebuilds, each step by one program on a file and by the other on
// its copy, then the other way round.
func TestSanlock_index_histories(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 3))
			a, b := twoFiles(t, 14*mib, "direct format -x LS:%F:1048576")
			for i := range 60 {
				name, off := fmt.Sprint("n", rnd.IntN(12)), (3+rnd.IntN(10))*mib
				line := []string{
					fmt.Sprintf("direct update -x LS:%%F:1M -e %s:%d", name, off), fmt.Sprintf("direct update -x LS:%%F:1M -e %s:%d", name, off),
					fmt.Sprintf("direct update -x LS:%%F:1M -e %s:%d -z 1", name, off), "direct lookup -x LS:%F:1M -e " + name, fmt.Sprintf("direct lookup -x LS:%%F:1M -e :%d", off),
					fmt.Sprintf("direct lookup -x LS:%%F:1M -e %s:%d", name, off), "direct lookup -x LS:%F:1M", "direct rebuild -x LS:%F:1M",
					fmt.Sprintf("direct init -r LS:%s:%%F:%d", name, off), fmt.Sprintf("direct init -r LS:%s:%%F:%d -z 1", name, off),
				}[rnd.IntN(10)]
				if i%2 == 1 {
					a, b = b, a
				}
				sameBehaviour(t, a, b, line)
			}
			sameFiles(t, a, b, "at the end")
		})
	}
}
