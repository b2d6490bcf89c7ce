package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testBlocks = 24

func newScribe(t *testing.T) (*scribe, *bytes.Buffer) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	var out bytes.Buffer
	return &scribe{disk: f, out: &out, seed: 7, blocks: testBlocks, stretch: 10, buf: make([]byte, blockSize)}, &out
}

func TestScribe_writesAndVerifies(t *testing.T) {
	t.Parallel()
	s, out := newScribe(t)
	if err := errors.Join(s.writeAll(), s.verifyAll()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "wrote 24 of 24 MiB") || !strings.HasSuffix(out.String(), "verified 24 MiB\n") {
		t.Errorf("%q", out)
	}
	n := 0
	for i := range uint64(testBlocks) {
		n += int(finally(s.seed, i) - 1)
	}
	if n == 0 || n == testBlocks {
		t.Errorf("%d of %d blocks are written twice", n, testBlocks)
	}
}

// Each way in which a disk can be wrong is found.
func TestScribe_finds(t *testing.T) {
	t.Parallel()
	block := func(n, generation uint64) []byte {
		p := make([]byte, blockSize)
		fill(p, 7, n, generation)
		return p
	}
	twice := uint64(0)
	for !rewritten(7, twice) {
		twice++
	}
	for name, c := range map[string]struct {
		at   int64
		with []byte
		says string
	}{
		"a lost write":        {5*blockSize + 3*pageSize, make([]byte, pageSize), "zeroes"},
		"another's block":     {5 * blockSize, block(6, 1), "page 1536"},
		"an old generation":   {int64(twice) * blockSize, block(twice, 1), "generation 1"},
		"another disk's":      {9 * blockSize, func() []byte { p := make([]byte, blockSize); fill(p, 8, 9, 1); return p }(), "block 9"},
		"one bit":             {11*blockSize + 5000, []byte{block(11, finally(7, 11))[5000] ^ 1}, "block 11"},
		"half of a page torn": {int64(twice)*blockSize + pageSize/2, block(twice, 1)[pageSize/2 : pageSize], "block "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := newScribe(t)
			if err := s.writeAll(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.disk.WriteAt(c.with, c.at); err != nil {
				t.Fatal(err)
			}
			if err := s.verifyAll(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// forgetful loses writes after they were acknowledged.
type forgetful struct {
	disk
	lose int
}

func (f *forgetful) WriteAt(p []byte, off int64) (int, error) {
	if f.lose--; f.lose == 0 {
		return len(p), nil
	}
	return f.disk.WriteAt(p, off)
}

// full has no space behind some point.
type full struct{ disk }

func (f full) WriteAt(p []byte, off int64) (int, error) {
	if off >= 4*blockSize {
		return 0, io.ErrShortWrite
	}
	return f.disk.WriteAt(p, off)
}

func TestScribe_failsAtOnce(t *testing.T) {
	t.Parallel()
	s, out := newScribe(t)
	s.disk = &forgetful{disk: s.disk, lose: 12}
	if err := s.writeAll(); err == nil || !strings.Contains(err.Error(), "generation 1") {
		t.Errorf("a lost write: %v, %s", err, out)
	}
	s.disk = full{s.disk}
	if err := s.writeAll(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("an error: %v", err)
	}
}
