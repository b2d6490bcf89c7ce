package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/leases"
)

// tied is the processes that a lease is tied to. The first one is the holder; the others must not outlive it.
type tied struct {
	kill   bool
	cut    func(context.Context) error // nil: nothing is left when the processes have ended
	holder *process                    // the first of procs
	gone   chan struct{}               // closed when all have ended; the lease is freed then
	quit   chan struct{}               // closed when nobody cares any more
	wg     sync.WaitGroup

	mu    sync.Mutex // guards procs and ended
	procs []*process
	ended bool // gone is closed or about to be: nothing can be added
}

// newTied takes over the descriptors. cut is called for the devices of the holder, once its processes have ended.
func newTied(h *Holder, files []*os.File, cut Cut, log *slog.Logger) (*tied, error) {
	if h == nil || len(h.Processes) == 0 {
		closeAll(files)
		return nil, nil
	}
	if len(h.Devices) > 0 && cut == nil {
		closeAll(files)
		return nil, fmt.Errorf("%w: this keeper cannot cut off devices", ErrInvalid)
	}
	t := &tied{kill: h.Kill, gone: make(chan struct{}), quit: make(chan struct{})}
	procs, err := takeProcesses(h.Processes, files)
	if err != nil {
		return nil, err
	}
	t.procs, t.holder = procs, procs[0]
	if len(h.Devices) > 0 {
		t.cut = cutting(cut, slices.Clone(h.Devices), log)
	}
	for _, p := range procs {
		t.wg.Go(p.wait)
	}
	t.wg.Go(t.follow)
	return t, nil
}

// takeProcesses takes all descriptors over or none.
func takeProcesses(list []Process, files []*os.File) ([]*process, error) {
	if len(list) != len(files) {
		closeAll(files)
		return nil, fmt.Errorf("%w: %d processes with %d descriptors", ErrInvalid, len(list), len(files))
	}
	var procs []*process
	for i, f := range files {
		p, err := takeProcess(list[i].PID, f)
		if err != nil {
			closeAll(files[i+1:])
			for _, p := range procs {
				_ = p.file.Close()
			}
			return nil, err
		}
		procs = append(procs, p)
	}
	return procs, nil
}

// follow waits for the holder, ends those that came with it, and waits for them too.
func (t *tied) follow() {
	if !t.await(t.holder) {
		return
	}
	t.mu.Lock()
	t.ended = true
	rest := t.procs[1:]
	t.mu.Unlock()
	for _, p := range rest {
		if p.running() {
			_ = p.signal(unix.SIGKILL)
		}
	}
	for _, p := range rest {
		if !t.await(p) {
			return
		}
	}
	if t.cutOff() {
		close(t.gone)
	}
}

// await waits for the end of one process.
func (t *tied) await(p *process) bool {
	select {
	case <-p.gone:
		return true
	case <-t.quit:
		return false
	}
}

// add ties further processes, which end with the holder.
func (t *tied) add(list []Process, files []*os.File) error {
	procs, err := takeProcesses(list, files)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || len(t.procs)+len(procs) > maxProcesses {
		for _, p := range procs {
			_ = p.signal(unix.SIGKILL) // they must not run on without the lease
			_ = p.file.Close()
		}
		return fmt.Errorf("%w, or has %d processes already", ErrProcess, maxProcesses)
	}
	for _, p := range procs {
		t.procs = append(t.procs, p)
		t.wg.Go(p.wait)
	}
	return nil
}

// has says whether a running process of this number is tied. A number is not given out again before its process is
// gone.
func (t *tied) has(pid int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.procs {
		if p.pid == pid && p.running() {
			return true
		}
	}
	return false
}

// signal sends sig to the processes that came with the holder, and to the holder itself when they have ended: a holder
// that waits for its child can still say how it ended.
func (t *tied) signal(sig unix.Signal) error {
	t.mu.Lock()
	holder, rest := t.procs[0], append([]*process(nil), t.procs[1:]...)
	t.mu.Unlock()
	var errs []error
	others := false
	for _, p := range rest {
		if p.running() {
			others, errs = true, append(errs, p.signal(sig))
		}
	}
	if !others && holder.running() {
		errs = append(errs, holder.signal(sig))
	}
	return errors.Join(errs...)
}

// over says whether all are gone.
func (t *tied) over() bool {
	select {
	case <-t.gone:
		return true
	default:
		return false
	}
}

// close stops watching and waits until that is done.
func (t *tied) close() {
	close(t.quit)
	t.mu.Lock()
	for _, p := range t.procs {
		_ = p.file.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// watchHolder frees a lease on disk when its processes are gone. It ends with the holding.
func (s *server) watchHolder(sp *space, h *holding) {
	defer close(h.done)
	select {
	case <-h.withdrawn:
		if h.lost.Load() {
			s.evict(sp, h)
		}
		return
	case <-h.tied.gone:
	}
	if s.withdraw(sp, h.spec.key(), h) == nil {
		return // released, or lost: then nothing may be written
	}
	defer s.released(sp, h)
	defer h.tied.close()
	s.log.Info("the processes of a lease have ended, freeing it", "resource", h.spec.key(), "holder", h.spec.Holder.String())
	ctx, cancel := context.WithTimeout(context.Background(), endTimeLimit)
	defer cancel()
	if remote(h.spec.Device) || remote(sp.spec.Device) {
		_ = sleep(ctx, sp.spec.Profile.IOTimeout) // what they sent to a server may still be carried out
	}
	if err := h.free(ctx); err != nil {
		s.log.Error("a lease could not be freed", "resource", h.spec.key(), "error", err)
	}
}

// forget is close for a holding that may have no processes.
func (t *tied) forget() {
	if t != nil {
		t.close()
	}
}

// isFor says whether the lease is held for this holder.
func (h *holding) isFor(who *Holder) bool {
	if len(who.Processes) > 0 {
		return h.tied != nil && h.tied.has(who.Processes[0].PID)
	}
	return h.spec.Holder != nil && h.spec.Holder.Name == who.Name
}

// checkHolder compares the holder of a lease that is held here with the one who asks for it. A holder who asks again may
// name further processes.
func (h *holding) checkHolder(want *Holder, files []*os.File) error {
	switch {
	case want == nil && h.spec.Holder == nil:
		closeAll(files)
		return nil
	case want == nil || !h.isFor(want):
		closeAll(files)
		return h.heldHere()
	}
	var more []Process
	var moreFiles []*os.File
	for i, f := range files {
		if i >= len(want.Processes) || h.tied.has(want.Processes[i].PID) {
			_ = f.Close()
			continue
		}
		more, moreFiles = append(more, want.Processes[i]), append(moreFiles, f)
	}
	if len(more) == 0 {
		return nil
	}
	return h.tied.add(more, moreFiles)
}

func (h *holding) heldHere() error {
	return fmt.Errorf("resource %s is held for %s: %w", h.spec.Name, h.spec.Holder, leases.ErrHeldHere)
}

// dismiss asks the processes of a lease to end, and makes them when they do not within grace. It returns when they are
// gone, or ctx has ended.
func (t *tied) dismiss(ctx context.Context, line timeline) {
	tick := time.NewTicker(line.signalEvery())
	defer tick.Stop()
	for begun := time.Now(); ; {
		t.press(time.Since(begun) >= line.grace())
		select {
		case <-t.gone:
			return
		case <-t.quit:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
