package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-io/holdfast/cluster/raftlog"
)

// checkSnapshots makes sure that Raft, which takes the newest snapshot that can be read, finds behind it every entry that the host has
// promised to keep. Without this a damaged snapshot would take the host back in time, or end the process.
func checkSnapshots(snaps sealedSnapshots, log *raftlog.Content) error {
	path := snaps.path
	newest, err := newestSnapshot(path)
	if err != nil {
		return fmt.Errorf("listing %s: %w", path, err)
	}
	base, err := snaps.used()
	if err != nil {
		return err
	}
	switch {
	case base < newest && (log.Last < newest || log.Since > base+1):
		return &raftlog.DamagedError{Path: path, What: fmt.Sprintf("the snapshot of entry %d cannot be read, and the log (%d to %d) does not "+
			"take its place", newest, log.Since, log.Last)}
	case log.Last > base && log.Since > base+1:
		return &raftlog.DamagedError{Path: path, What: fmt.Sprintf("the newest snapshot is of entry %d, and the log begins at %d", base, log.Since)}
	}
	return nil
}

// used is the index of the snapshot that Raft will take; 0: there is none. The snapshot's content has a CRC-64 beside it.
func (s sealedSnapshots) used() (uint64, error) {
	list, err := s.List()
	if err != nil {
		return 0, fmt.Errorf("listing %s: %w", s.path, err)
	}
	for _, m := range list {
		_, r, err := s.Open(m.ID)
		if err != nil {
			continue // Raft goes on to the one before, and says so
		}
		if err := r.Close(); err != nil {
			return 0, fmt.Errorf("closing snapshot %s: %w", m.ID, err)
		}
		if term, index, ok := snapshotName(m.ID); !ok || term != m.Term || index != m.Index {
			return 0, &raftlog.DamagedError{Path: filepath.Join(s.path, m.ID), What: fmt.Sprintf("it says that it is of term %d and entry %d", m.Term, m.Index)}
		}
		return m.Index, s.unbroken(m.ID)
	}
	if len(list) > 0 {
		return 0, &raftlog.DamagedError{Path: s.path, What: "no snapshot in it can be read"}
	}
	return 0, nil
}

// newestSnapshot is the highest index of a finished snapshot by the folders' names, which are there even when nothing in them can be read.
func newestSnapshot(path string) (uint64, error) {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	newest := uint64(0)
	for _, e := range entries {
		if _, index, ok := snapshotName(e.Name()); ok {
			newest = max(newest, index)
		}
	}
	return newest, nil
}

// snapshotName takes the name of a snapshot's folder apart: term, index, milliseconds. One that is being written ends in .tmp.
func snapshotName(name string) (term, index uint64, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return 0, 0, false
	}
	term, err1 := strconv.ParseUint(parts[0], 10, 64)
	index, err2 := strconv.ParseUint(parts[1], 10, 64)
	_, err3 := strconv.ParseUint(parts[2], 10, 64)
	return term, index, errors.Join(err1, err2, err3) == nil
}
