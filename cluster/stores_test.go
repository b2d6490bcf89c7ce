package cluster

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/raftlog"
)

// raftFiles makes a directory with a log from first to last and snapshots of these entries.
func raftFiles(t *testing.T, first, last uint64, snapshots ...uint64) string {
	t.Helper()
	dir := t.TempDir()
	s, err := openBolt(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i := first; i <= last; i++ {
		if err := s.Log.StoreLog(&raft.Log{Index: i, Term: 1, Data: []byte("data")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range snapshots {
		_, trans := raft.NewInmemTransport("a")
		sink, err := s.Snapshot.Create(1, i, 1, raft.Configuration{}, 1, trans)
		if err == nil {
			_, err = io.Copy(sink, bytes.NewReader(bytes.Repeat([]byte("state"), 1000)))
		}
		if err := errors.Join(err, sink.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// turn turns over a bit of each file that fits.
func turn(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpenBolt_damaged: what Raft could not start from, or would start from in the past, is refused with the file's name and what to do.
func TestOpenBolt_damaged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		first, last uint64
		snapshots   []uint64
		turn        string // below the directory
		refused     bool
	}{
		{"nothing", 1, 50, []uint64{20, 40}, "", false},
		{"nothing in it", 1, 0, nil, "", false},
		{"the log", 1, 50, nil, "log.db", true},
		{"the newest snapshot, and the log reaches back", 15, 50, []uint64{20, 40}, "snapshots/1-40-*/state.bin", false},
		{"the newest snapshot, and the log does not", 30, 50, []uint64{20, 40}, "snapshots/1-40-*/state.bin", true},
		{"the newest snapshot, and the log ends before it", 15, 30, []uint64{20, 40}, "snapshots/1-40-*/state.bin", true},
		{"an older snapshot", 30, 50, []uint64{20, 40}, "snapshots/1-20-*/state.bin", false},
		{"all snapshots", 1, 50, []uint64{20, 40}, "snapshots/*/state.bin", true},
		{"what the newest snapshot says of itself", 45, 50, []uint64{20, 44}, "snapshots/1-44-*/meta.json", true},
		{"the seal of the newest snapshot", 45, 50, []uint64{20, 44}, "snapshots/1-44-*/meta.sum", true},
		{"a gap", 45, 50, []uint64{20}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := raftFiles(t, c.first, c.last)
			if c.name == "a gap" { // it is refused once it is there
				dir = raftFiles(t, c.first, c.last, 44)
				if err := os.RemoveAll(glob(t, dir, "snapshots/1-44-*")); err != nil {
					t.Fatal(err)
				}
			} else if len(c.snapshots) > 0 {
				dir = raftFiles(t, c.first, c.last, c.snapshots...)
			}
			if c.turn != "" {
				turn(t, filepath.Join(dir, c.turn))
			}
			s, err := openBolt(dir, slog.New(slog.DiscardHandler))
			if !c.refused {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.close(); err != nil {
					t.Error(err)
				}
				return
			}
			var d *raftlog.DamagedError
			if !errors.Is(err, ErrLogDamaged) || !errors.As(err, &d) || !bytes.HasPrefix([]byte(d.Path), []byte(dir)) {
				t.Errorf("%v", err)
			}
		})
	}
}

func glob(t *testing.T, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	return files[0]
}

// TestOpenBolt_unsealed: a snapshot of an older program has no seal, and is taken.
func TestOpenBolt_unsealed(t *testing.T) {
	t.Parallel()
	dir := raftFiles(t, 30, 50, 40)
	if err := os.Remove(glob(t, dir, "snapshots/1-40-*/meta.sum")); err != nil {
		t.Fatal(err)
	}
	s, err := openBolt(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
