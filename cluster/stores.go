package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// Stores are the files of raft.
type Stores struct {
	Log      raft.LogStore
	Stable   raft.StableStore
	Snapshot raft.SnapshotStore
	Closer   io.Closer // may be nil
}

// StoreOpener opens the stores in a directory.
type StoreOpener func(dir string, log *slog.Logger) (Stores, error)

const (
	snapshotsKept = 2
	boltTimeout   = time.Second // for bbolt's own file lock; ours is held already
)

// openBolt opens bbolt for log and votes, and files for snapshots.
func openBolt(dir string, log *slog.Logger) (Stores, error) {
	hl := newHCLogger(log, "raft")
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, hl)
	if err != nil {
		return Stores{}, fmt.Errorf("opening raft's snapshots in %s: %w", dir, err)
	}
	db, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, "log.db"),
		// Without these, a file that once was large writes its whole freelist on each commit.
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: boltTimeout},
	})
	if err != nil {
		return Stores{}, fmt.Errorf("opening raft's log in %s: %w", dir, err)
	}
	return Stores{Log: db, Stable: db, Snapshot: snaps, Closer: db}, nil
}

func (s Stores) close() error {
	if s.Closer == nil {
		return nil
	}
	if err := s.Closer.Close(); err != nil && !errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("closing raft's log: %w", err)
	}
	return nil
}
