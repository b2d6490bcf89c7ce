package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// load asks the go command for every package of the module and for all they depend on.
func load(t *testing.T) Graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps",
		"-json=ImportPath,Standard,Imports,TestImports,XTestImports", Module+"/...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	g := Graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatalf("reading go list: %v", err)
		}
		g[p.ImportPath] = p
	}
}

func TestCheck_thisModule(t *testing.T) {
	t.Parallel()
	g := load(t)
	if len(g.own()) < 5 {
		t.Fatalf("go list found only %v", g.own())
	}
	for _, v := range Check(g) {
		t.Error(v)
	}
	for name, p := range g {
		if isOwn(name) && under(rel(name), "fsm") {
			checkPure(t, p)
		}
	}
}

func checkPure(t *testing.T, p Package) {
	t.Helper()
	for _, to := range p.Imports {
		if slices.Contains(pure, to) {
			t.Errorf("%s imports %s: the replicated state is pure; time, ids and random values arrive inside commands",
				rel(p.ImportPath), to)
		}
	}
}

// Every rule must be able to fail: one planted arrow each.
func TestCheck_findsPlantedArrows(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, from, to string
		test           bool
		want           string // empty: allowed
	}{
		{name: "fsm meets blockdev", from: "fsm", to: "blockdev", want: "never meet"},
		{name: "blockdev meets fsm", from: "blockdev/domain", to: "fsm", want: "Guard"},
		{name: "blockdev imports leases", from: "blockdev/domain", to: "leases", want: "Guard"},
		{name: "blockdev imports a format", from: "blockdev", to: "blockdev/lvm2", want: "Device alone"},
		{name: "formats import each other", from: "blockdev/lvm2", to: "blockdev/qcow2", want: "Device alone"},
		{name: "domain uses formats", from: "blockdev/domain", to: "blockdev/lvm2"},
		{name: "leases use devices", from: "leases/keeper", to: "blockdev"},
		{name: "leases use a domain", from: "leases", to: "blockdev/domain", want: "share nothing"},
		{name: "cluster imports http", from: "cluster/spm", to: "http/api", want: "below http"},
		{name: "http reaches around its interfaces", from: "http", to: "cluster", want: "interfaces"},
		{name: "client imports server", from: "http/client", to: "http", want: "leaf"},
		{name: "a server in the client's test", from: "http/client", to: "http", test: true},
		{name: "fencing knows leases", from: "fencing", to: "leases", want: "power switch"},
		{name: "internal imports upward", from: "internal/config", to: "http/api", want: "leaf"},
		{name: "test helper in a test", from: "fencing", to: "internal/testutil", test: true},
		{name: "jepsen imports what it judges", from: "jepsen", to: "leases", want: "judge"},
		{name: "users' faults bring others", from: "jepsen/nemesis/safe", to: "jepsen/nemesis", want: "users"},
		{name: "faults in the program", from: "cmd/holdfast", to: "jepsen/nemesis", want: "safe on a test pool"},
		{name: "safe faults in the program", from: "cmd/holdfast", to: "jepsen/nemesis/safe"},
		{name: "a folder of its own", from: "utils", to: "fmt", want: "folders are given"},
		{name: "raft below cluster", from: "leases", to: "github.com/hashicorp/raft", want: "knows raft"},
		{name: "serf in the fsm", from: "fsm", to: "github.com/hashicorp/serf/serf", want: "hint"},
		{name: "test code in the program", from: "cmd/holdfast", to: "testing", want: "not be in the program"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Check(planted(tt.from, tt.to, tt.test))
			if tt.want == "" {
				if len(got) > 0 {
					t.Fatalf("refused: %v", got)
				}
				return
			}
			if len(got) == 0 || !strings.Contains(got[0].Why, tt.want) {
				t.Fatalf("got %v, want a violation that says %q", got, tt.want)
			}
		})
	}
}

// planted is a graph of one arrow. Targets inside the module are written without its path.
func planted(from, to string, test bool) Graph {
	from = Module + "/" + from
	if top, _, _ := strings.Cut(to, "/"); slices.Contains(topFolders, top) {
		to = Module + "/" + to
	}
	p := Package{ImportPath: from, Imports: []string{to}}
	if test {
		p = Package{ImportPath: from, TestImports: []string{to}}
	}
	return Graph{from: p}
}
