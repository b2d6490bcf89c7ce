package raftlog

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// FuzzScan: whatever the bytes are, a scan ends, with content or with a DamagedError.
func FuzzScan(f *testing.F) {
	path := newPath(f)
	s := open(f, path)
	fill(f, s, 14)
	must(f, s.Close())
	whole, err := os.ReadFile(path)
	must(f, err)
	f.Add(whole)
	f.Add(whole[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Content{conf: map[string][]byte{}}
		var d *DamagedError
		if err := c.scan(bytes.NewReader(b), int64(len(b))); err != nil && !errors.As(err, &d) {
			t.Error(err)
		}
	})
}
