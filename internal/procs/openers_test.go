package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpeners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "node"), filepath.Join(dir, "link")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("node", link); err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf("process %d (", os.Getpid())
	for _, p := range []string{path, link} {
		if got := Openers(p); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, me) && len(s) > len(me)+1 }) {
			t.Errorf("%s: %v", p, got)
		}
	}
	f.Close()
	if got := Openers(path); len(got) != 0 {
		t.Errorf("closed: %v", got)
	}
}
