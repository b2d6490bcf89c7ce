package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/cluster/join"
)

// Files below DataDir/cluster, besides those of transport.Certs.
const (
	subDir      = "cluster"
	lockFile    = "lock"
	memberFile  = "member.json"  // written last: its presence makes the host a member
	leftFile    = "left.json"    // what member.json becomes when the host leaves
	keyringFile = "keyring.json" // gossip keys, the format of serf
	peersFile   = "peers.json"   // the last known addresses of the members, for a start without a leader
	raftDir     = "raft"
)

// member is what a host remembers about its membership.
type member struct {
	ClusterID   string `json:"cluster_id"`
	ClusterName string `json:"cluster_name"`
	Name        string `json:"name"`
	HostID      int    `json:"host_id"`
	First       bool   `json:"first,omitempty"` // made the cluster
	Created     int64  `json:"created"`
}

// dataDir is the node's own directory, locked against a second node.
type dataDir struct {
	path string
	lock *os.File
}

// IsMember says whether the data directory belongs to a member of a cluster.
func IsMember(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, subDir, memberFile))
	return err == nil
}

// openDataDir makes the directory when it is missing and locks it.
func openDataDir(parent string) (*dataDir, error) {
	d := &dataDir{path: filepath.Join(parent, subDir)}
	if err := os.MkdirAll(filepath.Join(d.path, raftDir), 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	if err := checkLocal(d.path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.file(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the data directory's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", parent, ErrDataDirInUse)
		}
		return nil, fmt.Errorf("locking the data directory %s: %w", parent, err)
	}
	d.lock = f
	return d, nil
}

func (d *dataDir) close() error { return d.lock.Close() }

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// networkFS are the file systems that a second host may see. Raft's files on one of them could be opened by two nodes,
// and would hang with the storage that raft is there to manage.
var networkFS = map[uint32]string{
	unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "CIFS",
	unix.CEPH_SUPER_MAGIC: "CephFS", unix.AFS_SUPER_MAGIC: "AFS", unix.CODA_SUPER_MAGIC: "Coda", unix.V9FS_MAGIC: "9P",
	0x7461636f: "OCFS2", 0x01161970: "GFS2", 0x0BD00BD0: "Lustre",
}

func checkLocal(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("looking at the file system of %s: %w", path, err)
	}
	if name, remote := networkFS[uint32(st.Type)]; remote {
		return fmt.Errorf("%s is on %s: %w", path, name, ErrNotLocal)
	}
	return nil
}

// write replaces a file so that a crash leaves the old or the new content.
func (d *dataDir) write(name string, data []byte, mode fs.FileMode) error {
	tmp := d.file(name) + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := os.Rename(tmp, d.file(name)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return d.sync()
}

// sync makes renames in the directory durable.
func (d *dataDir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("syncing the data directory: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *dataDir) writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	return d.write(name, append(data, '\n'), 0o600)
}

func (d *dataDir) readJSON(name string, v any) error {
	data, err := os.ReadFile(d.file(name))
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading %s: %w", d.file(name), err)
	}
	return nil
}

// clearRaft removes what an unfinished setup, or an earlier membership, left of raft.
func (d *dataDir) clearRaft() error {
	if err := os.RemoveAll(d.file(raftDir)); err != nil {
		return fmt.Errorf("removing old raft files: %w", err)
	}
	return os.MkdirAll(d.file(raftDir), 0o700)
}

// readCA loads the cluster's CA.
func (d *dataDir) readCA(certFile, keyFile string) (*join.CA, error) {
	certPEM, err := os.ReadFile(d.file(certFile))
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's CA: %w", err)
	}
	keyPEM, err := os.ReadFile(d.file(keyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's CA: %w", err)
	}
	return join.ParseCA(certPEM, keyPEM)
}
