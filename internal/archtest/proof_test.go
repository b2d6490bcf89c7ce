package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// freeing is a call that frees the lockspace record of another host.
var freeing = regexp.MustCompile(`\.(FreeHost|FreeRecord)\(`)

// mayFree are the files on the one way to it: the manager's Witness, which asks its own mirror for a proof first, the
// adapter below it, and the keeper.
var mayFree = []string{"cluster/manager/rpc.go", "cluster/host/health.go", "leases/keeper/hostrecord.go", "leases/keeper/space.go", "leases/free.go"}

// callsFree lists the files of a tree that call it, tests aside.
func callsFree(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if freeing.Match(b) {
			name, _ := filepath.Rel(root, path)
			files = append(files, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Nobody frees another host's record without a proof: there is one way to it, and it begins with the proof.
func TestProof_oneWayToFree(t *testing.T) {
	t.Parallel()
	for _, f := range callsFree(t, "../..") {
		if !slices.Contains(mayFree, f) {
			t.Errorf("%s frees a host's record; only manager.Witness may, after it has seen the proof", f)
		}
	}
	dir := t.TempDir()
	planted := "package x\nfunc f() { k.FreeHost(ctx, \"ls\", 3, 4) }\n"
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte(planted), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(callsFree(t, dir)) != 1 {
		t.Error("a planted call is not seen")
	}
}
