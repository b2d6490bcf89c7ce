package nemesis

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// table is the catalogue as the design has it.
func table() string {
	var b strings.Builder
	for _, n := range Catalogue() {
		m := missing(n, nil)
		if len(m) == 0 {
			m = []string{"nothing"}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", n.Name, n.Does, strings.Join(m, ", "))
	}
	return b.String()
}

func TestDesign_hasTheCatalogue(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, _ := strings.Cut(string(page), "|---|---|---|\n"); !strings.HasPrefix(rest, table()+"\n") {
		t.Errorf("DESIGN.md does not have this table:\n%s", table())
	}
}
