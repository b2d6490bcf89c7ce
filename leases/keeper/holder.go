package keeper

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process names a running process. Its number alone may mean another process by the time that it is looked up, so
// whoever sends it over a network or keeps it for long adds the start time.
type Process struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat, in clock ticks since boot; 0 is not checked.
	StartTime uint64 `json:"start_time,omitempty"`
}

// Holder says on whose behalf a lease is held. Without processes the agent holds it, under a name.
type Holder struct {
	// Name is for people: a VM's name.
	Name string `json:"name,omitempty"`
	// Processes are those that the lease is tied to. It is freed as soon as the last of them has ended. When the first
	// one ends, the others are killed. At most maxProcesses.
	Processes []Process `json:"processes,omitempty"`
	// Kill allows to end the processes when the lease is lost: SIGTERM first, SIGKILL later. A process that may not be
	// killed must stop by itself, or the watchdog resets the machine.
	Kill bool `json:"kill,omitempty"`
	// Stay lets the lease outlive the agent: the keeper goes on for the processes, and the next agent takes the keeper over.
	// It needs processes. Asking again by the first of them gives the next agent the lease in its hands.
	Stay bool `json:"stay,omitempty"`
	// Devices are what others write to under this lease, as the kernel knows them: when the processes have ended, and before the
	// lease is freed, they are cut off. See Options.Cut. At most maxDevices, and processes are needed.
	Devices []string `json:"devices,omitempty"`
}

// maxDevices bounds the devices of one lease, maxDeviceName the name of one.
const (
	maxDevices    = 8
	maxDeviceName = 128
)

// maxProcesses bounds the processes of one lease.
const maxProcesses = 8

// ErrProcess says that a process to tie a lease to is not there any more.
var ErrProcess = errors.New("process has ended: its lease cannot be had")

// validate refuses what cannot be tied.
func (h *Holder) validate() error {
	if h == nil {
		return nil
	}
	if h.Name == "" && len(h.Processes) == 0 {
		return fmt.Errorf("%w: a holder needs a name or a process", ErrInvalid)
	}
	if len(h.Processes) > maxProcesses || len(h.Name) > 255 {
		return fmt.Errorf("%w: a holder has at most %d processes and a name of 255 bytes", ErrInvalid, maxProcesses)
	}
	if h.Stay && len(h.Processes) == 0 {
		return fmt.Errorf("%w: a lease that outlives the agent needs a process", ErrInvalid)
	}
	if len(h.Devices) > maxDevices || len(h.Devices) > 0 && len(h.Processes) == 0 || slices.ContainsFunc(h.Devices, badDevice) {
		return fmt.Errorf("%w: devices %.3q", ErrInvalid, h.Devices)
	}
	for _, p := range h.Processes {
		if p.PID <= 1 {
			return fmt.Errorf("%w: process %d", ErrInvalid, p.PID)
		}
	}
	return nil
}

func badDevice(name string) bool { return name == "" || len(name) > maxDeviceName }

// String names the holder for people.
func (h *Holder) String() string {
	switch {
	case h == nil:
		return "the agent"
	case len(h.Processes) == 0:
		return h.Name
	case h.Name == "":
		return fmt.Sprintf("process %d", h.Processes[0].PID)
	}
	return fmt.Sprintf("%s (process %d)", h.Name, h.Processes[0].PID)
}

// StartTime reads when a process started.
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("process %d: %w: %w", pid, ErrProcess, err)
	}
	// The name in parentheses may hold anything, so count from its end: the state is field 3.
	_, rest, ok := cutLast(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("process %d: /proc/%d/stat is not as expected", pid, pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// open takes hold of the processes, so that nothing that comes later can be mistaken for them.
func (h *Holder) open() (files []*os.File, err error) {
	if h == nil {
		return nil, nil
	}
	if err := h.validate(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	for _, p := range h.Processes {
		fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
		if err != nil {
			return files, fmt.Errorf("process %d: %w: %w", p.PID, ErrProcess, err)
		}
		files = append(files, os.NewFile(uintptr(fd), "pidfd"))
		if p.StartTime == 0 {
			continue
		}
		if at, err := StartTime(p.PID); err != nil || at != p.StartTime {
			return files, fmt.Errorf("process %d: %w: it started at %d, not %d: %w", p.PID, ErrProcess, at, p.StartTime, err)
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // a descriptor of a process has nothing to flush
	}
}
