package archtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// only are words of the build for failure injection.
var only = []string{"HOLDFAST_PLANT", "HOLDFAST_CLOCK_SEAM", "HOLDFAST_BOOT_SEAM", "guard-forever", "internal/clockseam", "nobody looked"}

// TestBinary_noPlants looks into the program itself: no mistake and no seam is in it. The same words must be in the other build, or
// the search would prove nothing.
func TestBinary_noPlants(t *testing.T) {
	t.Parallel()
	normal, test := build(t), build(t, "-tags", "jepsen")
	for _, word := range only {
		if bytes.Contains(normal, []byte(word)) {
			t.Errorf("the program contains %q", word)
		}
		if !bytes.Contains(test, []byte(word)) {
			t.Errorf("the build for failure injection does not contain %q", word)
		}
	}
}

// build builds the program as make does, so that the go command has most of it.
func build(t *testing.T, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast")
	args = append(append([]string{"build", "-trimpath", "-buildvcs=false", "-o", path}, args...), "./cmd/holdfast")
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
