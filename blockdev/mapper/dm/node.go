package dm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// nodes are the device nodes that programs open. Where udev runs it makes them, as links; what it does not make, or
// not in time, we make.
type nodes struct {
	dir      string
	mode     os.FileMode
	uid, gid int
	mknod    func(path string, n Number, mode os.FileMode) error
	number   func(path string) (Number, error)
}

func (n *nodes) path(name string) string { return filepath.Join(n.dir, name) }

// ensure makes the node unless it is there and is the right one. A wrong one is replaced in one step.
func (n *nodes) ensure(name string, dev Number) error {
	path := n.path(name)
	if have, err := n.number(path); err == nil && have == dev {
		return nil
	}
	tmp := n.path(fmt.Sprintf(".%s.%d", name, os.Getpid()))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("making the node %s: %w", path, err)
	}
	if err := n.mknod(tmp, dev, n.mode); err != nil {
		return fmt.Errorf("making the node %s: %w", path, err)
	}
	err := errors.Join(os.Chmod(tmp, n.mode), os.Chown(tmp, n.uid, n.gid)) // whatever the umask is
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making the node %s: %w", path, err), os.Remove(tmp))
	}
	return nil
}

// drop removes the node of a device that is gone. One of another device is left alone.
func (n *nodes) drop(name string, dev Number) error {
	path := n.path(name)
	have, err := n.number(path)
	dangling := errors.Is(err, fs.ErrNotExist)
	if err == nil && have != dev || err != nil && !dangling {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the node %s: %w", path, err)
	}
	return nil
}

// makeNode makes a block device node.
func makeNode(path string, n Number, mode os.FileMode) error {
	return unix.Mknod(path, unix.S_IFBLK|uint32(mode.Perm()), int(unix.Mkdev(n.Major, n.Minor)))
}

// blockNumber is the number of the block device at path.
func blockNumber(path string) (Number, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Number{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Number{}, fmt.Errorf("%w: %s is no block device", ErrUnmappable, path)
	}
	return Number{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}, nil
}
