package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	sigTerm = syscall.SIGTERM
	sigKill = syscall.SIGKILL
)

// devFile is DIR/dev.json: what a script needs to know of a running dev pool. It exists while the pool is ready.
type devFile struct {
	Pool   string        `json:"pool"`
	Domain string        `json:"domain"`
	LUN    string        `json:"lun"`
	API    string        `json:"api"` // any host's; this is the first one's
	Hosts  []devFileHost `json:"hosts"`
}

// devFileHost is one host of dev.json. A pid of 0 says that there is no such process now.
type devFileHost struct {
	Name      string `json:"name"`
	HostID    int    `json:"host_id"`
	PID       int    `json:"pid"`
	KeeperPID int    `json:"keeper_pid"`
	HTTP      string `json:"http"`
	DataDir   string `json:"data_dir"`
}

func devFilePath(dir string) string { return filepath.Join(dir, "dev.json") }

// makeLUN makes the sparse file that plays the LUN and reports whether it did. An existing one keeps its size and
// content.
func makeLUN(path string, size int64) (made bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("making the LUN file: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Sync(), f.Close()); err != nil {
		return false, fmt.Errorf("making the LUN file of %d bytes: %w; give a smaller --lun-size, or another file system", size,
			errors.Join(err, os.Remove(path)))
	}
	return true, nil
}

// keeperPID reads the pid that an agent wrote for its keeper; 0 when there is none or it has exited.
func keeperPID(dataDir string) int {
	b, err := os.ReadFile(filepath.Join(dataDir, "keeper.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || processRole(pid) != "keeper" {
		return 0
	}
	return pid
}
