package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// docHead stands above the printed file in docs/CONFIG.md.
const docHead = `# The configuration of an agent

This is what ` + "`holdfast agent --print-config`" + ` prints: every key with its meaning, unit and default. A test keeps this page
equal to it; ` + "`go test ./internal/config -update`" + ` writes it anew.

Every key may be left out. Unknown keys and a second YAML document are refused, and all values that are wrong are shown
at once, each with its key; the exit status is 2 then. Durations are written as ` + "`300ms`, `2s`, `1m30s`" + `. The file is read once,
when the agent starts: a change needs a restart, which frees the host's leases in order and takes the SPM role elsewhere.

` + "```yaml\n"

// docPage is docs/CONFIG.md.
func docPage(printed []byte) []byte {
	return append(append([]byte(docHead), printed...), "```\n"...)
}

func TestPrint_isThePageInDocs(t *testing.T) {
	t.Parallel()
	printed, err := Print(Default())
	if err != nil {
		t.Fatal(err)
	}
	page, want := filepath.Join("..", "..", "docs", "CONFIG.md"), docPage(printed)
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatalf("%v; go test ./internal/config -update writes it", err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/CONFIG.md is not what the agent prints; run go test ./internal/config -update")
	}
}
