// Package archtest holds the test that keeps the import graph as the design wants it: arrows point down only. The rules
// are data (rules.go), each with the reason that is printed when it is broken.
package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Module is the path in front of every package of this repository.
const Module = "github.com/holdfast-io/holdfast"

// Package is what `go list -json` says of one package.
type Package struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// Graph is the import graph by import path.
type Graph map[string]Package

// Violation is one arrow that must not be there.
type Violation struct {
	From, To string
	Why      string
}

// String is the line a person reads.
func (v Violation) String() string {
	return fmt.Sprintf("%s imports %s: %s", rel(v.From), rel(v.To), v.Why)
}

// Check applies every rule to every package of the module and returns what is wrong, sorted.
func Check(g Graph) []Violation {
	var out []Violation
	for _, name := range g.own() {
		p := g[name]
		out = append(out, checkFolder(p)...)
		out = append(out, checkLayers(p)...)
		out = append(out, checkLibraries(p)...)
	}
	return append(out, checkBinary(g)...)
}

// own lists the packages of the module, sorted.
func (g Graph) own() []string {
	var names []string
	for name := range g {
		if isOwn(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// checkFolder refuses Go code in a top-level folder that the design does not have.
func checkFolder(p Package) []Violation {
	top, _, _ := strings.Cut(rel(p.ImportPath), "/")
	if slices.Contains(topFolders, top) {
		return nil
	}
	return []Violation{{From: p.ImportPath, To: p.ImportPath,
		Why: "the top-level folders are given; put the package under one of " + strings.Join(topFolders, ", ")}}
}

// checkLayers compares the package's arrows inside the module with the layer it is in. Tests obey the same arrows, but
// may also use the helpers for tests.
func checkLayers(p Package) []Violation {
	l, ok := layerOf(rel(p.ImportPath))
	if !ok {
		return nil // checkFolder has said it
	}
	var out []Violation
	for _, to := range p.Imports {
		if isOwn(to) && !l.allows(p.ImportPath, to) {
			out = append(out, Violation{From: p.ImportPath, To: to, Why: l.why})
		}
	}
	for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
		if isOwn(to) && !l.allows(p.ImportPath, to) && !l.allowsInTest(to) {
			out = append(out, Violation{From: p.ImportPath + " (test)", To: to, Why: l.why})
		}
	}
	return out
}

// checkLibraries keeps libraries in the layer that they belong to. Tests are free.
func checkLibraries(p Package) []Violation {
	var out []Violation
	for _, to := range p.Imports {
		for _, r := range libraries {
			if under(to, r.lib) && !anyUnder(rel(p.ImportPath), r.only) {
				out = append(out, Violation{From: p.ImportPath, To: to, Why: r.why})
			}
		}
	}
	return out
}

// checkBinary looks at all that the program links, directly or not.
func checkBinary(g Graph) []Violation {
	var out []Violation
	linked := g.reach(path.Join(Module, "cmd/holdfast"))
	for _, b := range notInBinary {
		for _, to := range linked {
			if (under(to, b.lib) || under(rel(to), b.lib)) && !slices.Contains(inBinary, rel(to)) {
				out = append(out, Violation{From: path.Join(Module, "cmd/holdfast"), To: to, Why: b.why})
			}
		}
	}
	return out
}

// reach lists everything that a package imports, directly or not, sorted.
func (g Graph) reach(from string) []string {
	seen := map[string]bool{}
	todo := []string{from}
	for len(todo) > 0 {
		p := g[todo[0]]
		todo = todo[1:]
		for _, to := range p.Imports {
			if !seen[to] {
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func isOwn(importPath string) bool { return under(importPath, Module) }

// rel cuts the module path off; paths of others stay as they are.
func rel(importPath string) string { return strings.TrimPrefix(importPath, Module+"/") }

// under reports whether p is prefix or lies below it.
func under(p, prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }

func anyUnder(p string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(x string) bool { return under(p, x) })
}
