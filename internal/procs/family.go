package procs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Family lists the processes, other than this one, that belong to a session or carry mark (NAME=VALUE) in the
// environment they were started with. The mark finds those that made a session of their own. Processes that have
// exited and only wait for their parent do not count. session 0 looks for the mark alone.
func Family(session int, mark string) ([]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var pids []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if belongs(dir, session, mark) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// belongs judges one process. A process that exits meanwhile does not belong.
func belongs(dir string, session int, mark string) bool {
	sid, running := readStat(dir)
	if !running {
		return false
	}
	return session != 0 && sid == session || mark != "" && carries(dir, mark)
}

// readStat returns the session of a process and whether it runs at all.
func readStat(dir string) (sid int, running bool) {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, false
	}
	// pid (name) state ppid pgrp session ...: the name may hold anything, so count from the last parenthesis.
	_, rest, ok := strings.Cut(string(b[max(0, bytes.LastIndexByte(b, ')')):]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 4 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	sid, err = strconv.Atoi(f[3])
	return sid, err == nil
}

// carries reports whether the process was started with mark in its environment.
func carries(dir, mark string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return false
	}
	for _, kv := range bytes.Split(b, []byte{0}) {
		if string(kv) == mark {
			return true
		}
	}
	return false
}

// HasArg reports whether the first argument of a process, after its program, is arg: its verb.
func HasArg(pid int, arg string) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return false
	}
	args := bytes.Split(b, []byte{0})
	return len(args) > 1 && string(args[1]) == arg
}
