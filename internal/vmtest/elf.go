package vmtest

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// libraryDirs are where Debian keeps libraries.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/lib", "/usr/lib"}

// source is where the file of this path in the guest is taken from: below root, or this machine.
func source(root, path string) string {
	if in := filepath.Join(root, path); root != "" {
		if _, err := os.Stat(in); err == nil {
			return in
		}
	}
	return path
}

// libraries lists what a program needs at run time: its loader and all shared libraries, theirs too. Files below root are
// taken before those of this machine.
func libraries(root, program string) ([]string, error) {
	var out []string
	for todo := []string{program}; len(todo) > 0; todo = todo[1:] {
		need, err := needed(root, todo[0])
		if err != nil {
			return nil, fmt.Errorf("libraries of %s: %w", program, err)
		}
		for _, path := range need {
			if !slices.Contains(out, path) {
				out, todo = append(out, path), append(todo, path)
			}
		}
	}
	return out, nil
}

// needed lists what one file asks for.
func needed(root, path string) ([]string, error) {
	f, err := elf.Open(source(root, path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []string
	if s := f.Section(".interp"); s != nil {
		b, err := s.Data()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, strings.TrimRight(string(b), "\x00"))
	}
	for _, name := range names {
		lib, err := findLibrary(root, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, lib)
	}
	return out, nil
}

func findLibrary(root, name string) (string, error) {
	for _, dir := range libraryDirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(source(root, path)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no library %s in %v", name, libraryDirs)
}

// modules lists the files of kernel modules below root in the order in which they must be loaded: names, and before each
// of them what it depends on. Modules that are built into the kernel are not there, and not needed.
func modules(root string, names []string) ([]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if base, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil && !d.IsDir() {
			files[moduleName(base)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("modules in %s: %w", root, err)
	}
	var out []string
	for _, name := range names {
		if out, err = withDependencies(files, moduleName(name), out, 0); err != nil {
			return nil, fmt.Errorf("modules in %s: %w", root, err)
		}
	}
	return out, nil
}

// moduleName has one of the two characters that mean the same.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

const maxModuleDepth = 20

func withDependencies(files map[string]string, name string, done []string, depth int) ([]string, error) {
	path, ok := files[name]
	if !ok || depth > maxModuleDepth {
		return nil, fmt.Errorf("no module %s: is it compressed, or built in?", name)
	}
	if slices.Contains(done, path) {
		return done, nil
	}
	deps, err := moduleDepends(path)
	if err != nil {
		return nil, err
	}
	for _, d := range deps {
		if done, err = withDependencies(files, moduleName(d), done, depth+1); err != nil {
			return nil, err
		}
	}
	return append(done, path), nil
}

// moduleDepends reads the names that a module says it depends on.
func moduleDepends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New(path + " is no kernel module")
	}
	b, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for item := range bytes.SplitSeq(b, []byte{0}) {
		if list, ok := strings.CutPrefix(string(item), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
