package vmtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// archive writes an initramfs: a cpio archive of the format "newc". Each entry is a header of 6 bytes of magic and 13
// numbers of 8 hexadecimal digits, the name with a NUL, and the contents, both padded to 4 bytes.
type archive struct {
	w     *bufio.Writer
	n     int64
	inode int
	dirs  map[string]bool
	err   error
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
	modeChar = 0o020600
	trailer  = "TRAILER!!!"
)

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriter(w), dirs: map[string]bool{".": true}}
}

// entry writes all of one entry but its contents. Errors stay until close.
func (a *archive) entry(name string, mode, size int64, major, minor int) {
	a.inode++
	links := 1
	if mode == modeDir {
		links = 2
	}
	a.printf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", a.inode, mode, 0, 0, links, 0, size,
		0, 0, major, minor, len(name)+1, 0, name)
	a.pad()
}

func (a *archive) printf(format string, args ...any) {
	n, err := fmt.Fprintf(a.w, format, args...)
	a.n += int64(n)
	a.err = errors.Join(a.err, err)
}

func (a *archive) pad() {
	for a.n%4 != 0 {
		a.err = errors.Join(a.err, a.w.WriteByte(0))
		a.n++
	}
}

// parents writes the folders above a name.
func (a *archive) parents(name string) {
	if dir := path.Dir(name); !a.dirs[dir] {
		a.parents(dir)
		a.dirs[dir] = true
		a.entry(dir, modeDir, 0, 0, 0)
	}
}

func (a *archive) dir(name string) { a.parents(clean(name) + "/x") }

// clean is the name as archives have it: relative.
func clean(name string) string { return strings.TrimPrefix(path.Clean(name), "/") }

func (a *archive) text(name, content string) {
	name = clean(name)
	a.parents(name)
	a.entry(name, modeFile, int64(len(content)), 0, 0)
	a.printf("%s", content)
	a.pad()
}

func (a *archive) char(name string, major, minor int) {
	name = clean(name)
	a.parents(name)
	a.entry(name, modeChar, 0, major, minor)
}

// file copies a file of this machine, executable.
func (a *archive) file(name, from string) {
	name = clean(name)
	a.parents(name)
	f, err := os.Open(from)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	a.entry(name, modeFile, st.Size(), 0, 0)
	n, err := io.Copy(a.w, f)
	if err == nil && n != st.Size() {
		err = fmt.Errorf("%s changed while it was read", from)
	}
	a.n += n
	a.err = errors.Join(a.err, err)
	a.pad()
}

func (a *archive) close() error {
	a.entry(trailer, 0, 0, 0, 0)
	return errors.Join(a.err, a.w.Flush())
}
