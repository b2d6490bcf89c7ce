package cluster

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/raftlog"
)

// Files of a snapshot. Raft has a CRC-64 of the state in meta.json and none of meta.json itself, which says who the members are.
const (
	snapshotsDir = "snapshots"
	metaFile     = "meta.json"
	sealFile     = "meta.sum"
)

// sealedSnapshots are raft's snapshots in files, with a checksum beside each meta.json. A crash may leave a snapshot without one, and
// an older program makes them so: such a one is not checked.
type sealedSnapshots struct {
	raft.SnapshotStore
	path string
}

// Create begins a snapshot.
func (s sealedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, conf, confIndex, t)
	if err != nil {
		return nil, err
	}
	return sealedSink{sink, filepath.Join(s.path, sink.ID())}, nil
}

// sealedSink seals a snapshot when it is complete.
type sealedSink struct {
	raft.SnapshotSink
	dir string
}

// Close finishes the snapshot.
func (s sealedSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	meta, err := os.ReadFile(filepath.Join(s.dir, metaFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was cancelled before
	}
	if err == nil {
		d := dataDir{path: s.dir}
		err = d.write(sealFile, []byte(metaSum(meta)), 0o600)
	}
	if err != nil {
		return fmt.Errorf("sealing snapshot %s: %w", s.ID(), err)
	}
	return nil
}

func metaSum(meta []byte) string {
	return fmt.Sprintf("crc32c %08x\n", crc32.Checksum(meta, crc32.MakeTable(crc32.Castagnoli)))
}

// unbroken compares what a snapshot says of itself with its seal.
func (s sealedSnapshots) unbroken(id string) error {
	dir := filepath.Join(s.path, id)
	seal, err := os.ReadFile(filepath.Join(dir, sealFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	meta, err2 := os.ReadFile(filepath.Join(dir, metaFile))
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("reading snapshot %s: %w", dir, err)
	}
	if string(seal) != metaSum(meta) {
		return &raftlog.DamagedError{Path: filepath.Join(dir, metaFile), What: "it has another checksum than it was written with"}
	}
	return nil
}
