package httpapi_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/holdfast-io/holdfast/http/api"
)

var codeRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9]{3}) \\|")

// codesIn reads the table of codes out of a page.
func codesIn(page []byte) map[string]string {
	got := map[string]string{}
	for _, m := range codeRow.FindAllSubmatch(page, -1) {
		got[string(m[1])] = string(m[2])
	}
	return got
}

func TestCodes_theTableInDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "API.md"))
	if err != nil {
		t.Fatal(err)
	}
	got, want := codesIn(page), api.Codes()
	for code, status := range want {
		if got[code] != fmt.Sprint(status) {
			t.Errorf("docs/API.md gives %s the status %q, it is %d", code, got[code], status)
		}
	}
	for code := range got {
		if _, ok := want[code]; !ok {
			t.Errorf("docs/API.md has the code %s, which does not exist", code)
		}
	}
}
