package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxOpeners bounds the answer: it is for people.
const maxOpeners = 8

// Openers names the processes that have a file open, as "process 123 (qemu-system-x86)". It finds those that opened it by this path or one
// that leads there, and whose descriptors this process may look at: nobody is no proof of anything. It reads names only, so a device
// that hangs does not hold it up.
func Openers(path string) []string {
	names := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		names = append(names, real)
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []string
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err == nil && len(found) < maxOpeners && hasOpen(pid, names) {
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			found = append(found, fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(comm))))
		}
	}
	return found
}

// hasOpen looks through a process's descriptors. One that has just ended has none.
func hasOpen(pid int, names []string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		for _, name := range names {
			if err == nil && to == name {
				return true
			}
		}
	}
	return false
}
