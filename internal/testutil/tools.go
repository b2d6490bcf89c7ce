package testutil

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// adminPath has the folders of administrators' tools, which PATH of an ordinary user lacks.
var adminPath = []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

// NeedTool skips the test when one of the programs is not installed. In CI (CI=true) it fails instead.
func NeedTool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if toolPath(name) == "" {
			missing(t, "needs the program "+name)
		}
	}
}

// toolPath finds a program in PATH or among the administrators' tools; "" when there is none.
func toolPath(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range adminPath {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	return ""
}

// Command prepares a program with LC_ALL=C. The process is killed when the test ends.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	path := toolPath(args[0])
	if path == "" {
		t.Fatalf("no program %s: call NeedTool first", args[0])
	}
	cmd := exec.CommandContext(Deadline(t), path, args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd
}

// Run runs a program to its end and returns what it wrote to standard output. A failure fails the test with all that
// the program said.
func Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := TryRun(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryRun is Run for programs that may fail: the error holds the command line and standard error.
func TryRun(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := Command(t, args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), &RunError{Args: args, Stdout: stdout.String(), Stderr: stderr.String(), Err: err}
	}
	return stdout.String(), nil
}

// RunError says which program failed, how, and what it wrote.
type RunError struct {
	Args           []string
	Stdout, Stderr string
	Err            error
}

// Error has the command line, the exit status and all output.
func (e *RunError) Error() string {
	return strings.Join(e.Args, " ") + ": " + e.Err.Error() + "\n" + e.Stdout + e.Stderr
}

// Unwrap returns the error of package os/exec.
func (e *RunError) Unwrap() error { return e.Err }
