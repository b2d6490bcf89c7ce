package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/holdfast-io/holdfast/cluster/raftlog"
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

// openBolt opens bbolt for log and votes, and files for snapshots. What is damaged is refused here: Raft would end the process over it, or
// apply it.
func openBolt(dir string, log *slog.Logger) (Stores, error) {
	hl := newHCLogger(log, "raft")
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, hl)
	if err != nil {
		return Stores{}, fmt.Errorf("opening raft's snapshots in %s: %w", dir, err)
	}
	db, content, err := raftlog.Open(filepath.Join(dir, "log.db"), boltTimeout)
	if err != nil {
		return Stores{}, fmt.Errorf("opening raft's log in %s: %w", dir, asDamage(err))
	}
	sealed := sealedSnapshots{snaps, filepath.Join(dir, snapshotsDir)}
	if err := checkSnapshots(sealed, content); err != nil {
		return Stores{}, errors.Join(fmt.Errorf("opening raft's snapshots in %s: %w", dir, asDamage(err)), db.Close())
	}
	return Stores{Log: db, Stable: db, Snapshot: sealed, Closer: db}, nil
}

// asDamage makes an error that tells what to do of one that tells what is damaged.
func asDamage(err error) error {
	var d *raftlog.DamagedError
	if errors.As(err, &d) {
		return fmt.Errorf("%w: %w", err, ErrLogDamaged)
	}
	return err
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
