package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/http/api"
)

func TestReadSecret(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hunter2\r\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, file, in string
		stdin, fails   bool
		want           string
	}{
		{"none", "", "x", false, false, ""},
		{"the first line of a file", file, "", false, false, "hunter2"},
		{"standard input", "", "hunter3", true, false, "hunter3"},
		{"both", file, "x", true, true, ""},
		{"an empty line", "", "\n", true, true, ""},
		{"nothing at all", "", "", true, true, ""},
		{"too long", "", strings.Repeat("x", maxSecretLine+1), true, true, ""},
		{"no such file", file + "x", "", false, true, ""},
	} {
		got, err := readSecret(strings.NewReader(tc.in), tc.file, tc.stdin)
		if got != tc.want || (err != nil) != tc.fails {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
}

func TestFencingSet_arguments(t *testing.T) {
	t.Parallel()
	got, err := fencingSet([]string{"grace=45s", "quiet=default", "enabled=false", "skip-if-live=true"})
	if err != nil || *got.GraceSeconds != 45 || *got.QuietSeconds != 0 || *got.Enabled || !*got.SkipIfLive || got.Restart != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{"grace", "grace=", "grace=-1s", "grace=soon", "enabled=perhaps", "colour=red", "=x"} {
		var usage usageError
		if _, err := fencingSet([]string{bad}); !errors.As(err, &usage) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestEndOfOrder(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[string]int{"done": exitOK, "failed": exitFailed, "abandoned": exitFailed, "skipped": exitFailed, "": exitUnknown} {
		cmd := newRootCommand()
		cmd.SetErr(&strings.Builder{})
		if got := report(cmd, endOfOrder(api.FenceOp{ID: "f", Host: "h1", Outcome: outcome})); got != want {
			t.Errorf("%q ends with status %d, want %d", outcome, got, want)
		}
	}
}

// The command line refuses what would put a secret where everybody can read it.
func TestPowerAdd_noSecretInArguments(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--secret", "--password"} {
		if status, _, _ := runCLI(t, "host", "power", "add", "h1", "--type", "ipmi", flag, "x"); status != exitUsage {
			t.Errorf("%s: status %d", flag, status)
		}
	}
	status, _, errs := runCLI(t, "host", "power", "add", "h1", "--type", "ipmi", "--option", "cipher")
	if status != exitUsage || !strings.Contains(errs, "key=value") {
		t.Errorf("status %d, %s", status, errs)
	}
}
