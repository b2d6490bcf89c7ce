package pool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// What is which of a host's files is damaged.
type What string

// What can be damaged.
const (
	RaftLog  What = "raft log"
	Snapshot What = "snapshot"
)

// ErrNothing says that the host has no such file yet.
var ErrNothing = errors.New("the host has none yet")

// ErrEnded says that an agent that was started has ended before it answered.
var ErrEnded = errors.New("the agent ended at once")

// ErrRunning says that the host must be off for this.
var ErrRunning = errors.New("the host still runs; kill both parts or cut its power first")

// flips is how many bits are turned over, each in a piece of its own that is not all zeros.
const (
	flips = 8
	piece = 4096
)

// ErrUsed says that Raft has run with the damaged log since, so that the old one must not come back: it could forget a vote.
var ErrUsed = errors.New("the host has been a member with the damaged log since")

// memberSaid is what an agent says, before anything can follow from it, when it runs as a member.
const memberSaid = `msg="cluster node is up"`

// wound is a file before it was damaged.
type wound struct {
	what   What
	path   string
	before []byte
	logAt  int64 // size of the agent's log at the time
}

// Damage turns over bits of a host's files, chosen by the seed. The host must not run. It may refuse to start then, until Repair.
func (p *Pool) Damage(name string, what What, seed int64) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	h.power.Lock()
	defer h.power.Unlock()
	err = h.mustBeOff()
	if err == nil {
		err = h.withDisk(func() error { return h.damage(what, seed) })
	}
	if err != nil {
		return fmt.Errorf("damaging the %s of %s: %w", what, name, err)
	}
	return nil
}

// Wipe empties a host's data directory: it belongs to no cluster any more, and Join makes it a member again. The host must not run.
func (p *Pool) Wipe(name string) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	h.power.Lock()
	defer h.power.Unlock()
	err = h.mustBeOff()
	if err == nil {
		err = h.withDisk(h.wipe)
	}
	if err != nil {
		return fmt.Errorf("wiping %s: %w", name, err)
	}
	return nil
}

// mustBeOff refuses a host that runs, or will. Caller holds power.
func (h *host) mustBeOff() error {
	h.mu.Lock()
	want := h.want
	h.mu.Unlock()
	pids, err := h.family()
	if err == nil && (want || len(pids) > 0) {
		err = ErrRunning
	}
	return err
}

// withDisk does something on the disk, which it mounts for that long where the host is without power.
func (h *host) withDisk(do func() error) error {
	h.mu.Lock()
	off := h.off
	h.mu.Unlock()
	if h.disk == nil || !off {
		return do()
	}
	if err := h.disk.mount(); err != nil {
		return err
	}
	return errors.Join(do(), h.disk.unmount())
}

func (h *host) wipe() error {
	h.wounds = nil
	entries, err := os.ReadDir(h.data)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(h.data, e.Name())))
	}
	return err
}

// damage finds the file and turns bits over.
func (h *host) damage(what What, seed int64) error {
	raft := filepath.Join(h.data, "cluster", "raft")
	var path string
	switch what {
	case RaftLog:
		path = filepath.Join(raft, "log.db")
	case Snapshot:
		all, err := filepath.Glob(filepath.Join(raft, "snapshots", "*", "state.bin"))
		if err != nil || len(all) == 0 {
			return errors.Join(ErrNothing, err)
		}
		slices.Sort(all)
		path = all[len(all)-1]
	default:
		return fmt.Errorf("there is no %q to damage", what)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(b) == 0 {
		return ErrNothing
	}
	if err != nil {
		return err
	}
	fi, err := os.Stat(h.p.Logs(h.name))
	if err != nil {
		return err
	}
	bad := slices.Clone(b)
	flip(bad, rand.New(rand.NewPCG(uint64(seed), 0)))
	h.wounds = append(h.wounds, wound{what, path, b, fi.Size()})
	return overwrite(path, bad)
}

// Repair puts the files back that Damage has changed, as from a copy that was made while the host was off. The host must not run. A log
// that Raft has run with since stays as it is, with ErrUsed: the host goes on with it, or is lost. A snapshot always comes back, for
// nothing is ever written to one. Without damage there is nothing to do.
func (p *Pool) Repair(name string) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	h.power.Lock()
	defer h.power.Unlock()
	if len(h.wounds) == 0 {
		return nil
	}
	if err := h.mustBeOff(); err != nil {
		return fmt.Errorf("repairing the files of %s: %w", name, err)
	}
	if err := h.withDisk(h.heal); err != nil {
		return fmt.Errorf("repairing the files of %s: %w", name, err)
	}
	return nil
}

// heal takes back the last damage first. What cannot be put back can be tried again; a log that was used never can.
func (h *host) heal() (err error) {
	var left []wound
	for _, w := range slices.Backward(h.wounds) {
		werr := h.healOne(w)
		if werr != nil && !errors.Is(werr, ErrUsed) {
			left = append(left, w)
		}
		err = errors.Join(err, werr)
	}
	slices.Reverse(left)
	h.wounds = left
	return err
}

func (h *host) healOne(w wound) error {
	if w.what == RaftLog {
		used, err := saidSince(h.p.Logs(h.name), w.logAt, memberSaid)
		if err != nil {
			return err
		}
		if used {
			return ErrUsed
		}
	}
	err := os.WriteFile(w.path, w.before, 0o600)
	if errors.Is(err, os.ErrNotExist) && w.what == Snapshot {
		return nil // there is a newer one, and this one was removed with its folder
	}
	return err
}

// saidSince looks for words in a log from an offset on.
func saidSince(path string, from int64, words string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, from, math.MaxInt64-from))
	return bytes.Contains(b, []byte(words)), err
}

// flip turns over bits in random pieces that hold something.
func flip(b []byte, r *rand.Rand) {
	var used []int
	for off := 0; off < len(b); off += piece {
		if slices.ContainsFunc(b[off:min(off+piece, len(b))], func(x byte) bool { return x != 0 }) {
			used = append(used, off)
		}
	}
	r.Shuffle(len(used), func(i, j int) { used[i], used[j] = used[j], used[i] })
	for _, off := range used[:min(flips, len(used))] {
		at := off + r.IntN(min(piece, len(b)-off))
		b[at] ^= 1 << r.IntN(8)
	}
}

// overwrite writes the bytes in place.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Sync(), f.Close())
}
