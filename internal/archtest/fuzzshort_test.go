package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeGo answers as go does to scripts/fuzz-short.sh. The first argument says how a run for some time goes, the second one how a run
// for so many inputs does.
const fakeGo = `#!/bin/sh
case "$*" in
"list ./...") echo p; exit ;;
list*) echo "$FAKE_DIR"; exit ;;
*"x -fuzzminimizetime "*) mode=$FAKE_COUNT ;;
*) mode=$FAKE_TIME ;;
esac
case $mode in
good) echo "fuzz: elapsed: 0s, gathering baseline coverage: 7/7 completed, now fuzzing with 2 workers"
    echo "fuzz: elapsed: 3s, execs: 19 (6/sec), new interesting: 0 (total: 7)" ;;
busy) echo "fuzz: elapsed: 3s, gathering baseline coverage: 5/7 completed" ;;
none) echo "testing: warning: no fuzz tests to fuzz" ;;
fail) echo "--- FAIL: FuzzA"; exit 1 ;;
esac
`

// A short run of the fuzz targets fails when one of them tries nothing.
func TestFuzzShort(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source, time, count string
		ok                  bool
		want                string
	}{
		"all is well":           {"func FuzzA(f *testing.F) {\n", "good", "fail", true, "1 targets, 12 inputs"},
		"two targets":           {"func FuzzA(f *testing.F) {\nfunc FuzzB(f *testing.F) {\n", "good", "fail", true, "2 targets, 24 inputs"},
		"too slow for the time": {"func FuzzA(f *testing.F) {\n", "busy", "good", true, "1 targets, 12 inputs"},
		"it tries nothing":      {"func FuzzA(f *testing.F) {\n", "busy", "busy", false, "tried no new input"},
		"it is not built":       {"func FuzzA(f *testing.F) {\n", "none", "none", false, "tried no new input"},
		"it fails":              {"func FuzzA(f *testing.F) {\n", "fail", "good", false, "--- FAIL"},
		"no target":             {"", "good", "good", false, "no fuzz target"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range map[string]string{"go": fakeGo, "a_test.go": c.source} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "sh", filepath.Join("..", "..", "scripts", "fuzz-short.sh"), "3s")
			cmd.Env = append(os.Environ(), "GO=sh "+filepath.Join(dir, "go"), "FAKE_DIR="+dir, "FAKE_TIME="+c.time, "FAKE_COUNT="+c.count)
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok || !strings.Contains(string(out), c.want) {
				t.Errorf("%v; %s", err, out)
			}
		})
	}
}
