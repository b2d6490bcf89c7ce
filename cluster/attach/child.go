package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/procs"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// Child is a process that a mapper started, and that waits for its specification.
type Child struct {
	PID   int
	Spec  io.WriteCloser // takes the specification; closed without one, the process ends
	Ready *os.File       // says how its start went
}

// Spawner starts the process of a mapping, in a session of its own. page is the keeper's shared page; nil: it needs none.
type Spawner func(page *os.File) (Child, error)

// EndProcess kills a process, if it is there, and waits for its end. The errors wrap ErrStillThere.
func EndProcess(ctx context.Context, p Process) error {
	h, err := OpenProcess(p)
	if errors.Is(err, procs.ErrGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStillThere, err)
	}
	defer h.Close()
	if err := h.Signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("%w: %w", ErrStillThere, err)
	}
	return AwaitProcess(ctx, h)
}

// AwaitProcess waits for the end of a process.
func AwaitProcess(ctx context.Context, h *procs.Handle) error {
	if err := h.Wait(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrStillThere, err)
	}
	h.Reap()
	return nil
}

// OpenProcess takes hold of a recorded process; procs.ErrGone if it has ended, also when its number was given out again.
func OpenProcess(p Process) (*procs.Handle, error) {
	h, err := procs.Open(p.PID)
	if err != nil {
		return nil, err
	}
	if at, err := keeper.StartTime(p.PID); err != nil || at != p.StartTime {
		_ = h.Close()
		return nil, procs.ErrGone
	}
	return h, nil
}

// PageInode tells one keeper's page from another's.
func PageInode(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("the keeper's page has no inode")
	}
	return st.Ino, nil
}
