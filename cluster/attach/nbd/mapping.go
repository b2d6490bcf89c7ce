package nbd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/mapper/export"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/internal/procs"
)

// mapping is an export that runs.
type mapping struct {
	client  *export.Client
	process attach.Process
	where   attach.Where
}

// Where is the export's address.
func (m *mapping) Where() attach.Where { return m.where }

// Status asks the process.
func (m *mapping) Status(ctx context.Context) (attach.Status, error) {
	st, err := m.client.Status(ctx)
	return status(st), gone(err)
}

// watchTime is how long one look at the process lasts; it tells of its end at once.
const watchTime = 20 * time.Minute

// Watch waits for the next event.
func (m *mapping) Watch(ctx context.Context, seq uint64) (attach.Status, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, watchTime)
		begun := time.Now()
		st, err := m.client.Watch(wait, seq)
		cancel()
		switch {
		case err == nil:
			return status(st), nil
		case ctx.Err() != nil:
			return attach.Status{}, context.Cause(ctx)
		case errors.Is(err, export.ErrNoProcess), errors.Is(err, export.ErrDetached), time.Since(begun) < watchTime/2:
			return status(st), gone(err)
		}
	}
}

// Grow hands over where the volume lies now.
func (m *mapping) Grow(ctx context.Context, segs []attach.Segment) (attach.Status, error) {
	st, err := m.client.Grow(ctx, segments(segs))
	return status(st), gone(err)
}

// Demote has nothing to do: the guard refuses every write from the moment that the lease is for reading.
func (m *mapping) Demote(context.Context) error { return nil }

// Close leaves the export alone.
func (m *mapping) Close() error { return m.client.Close() }

// Detach ends the export in order, and waits for the end of its process: then nothing of it can land on a device of the kernel,
// and for others the keeper waits before it frees the lease.
func (m *mapping) Detach(ctx context.Context) error {
	h, err := attach.OpenProcess(m.process)
	if errors.Is(err, procs.ErrGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", attach.ErrStillThere, err)
	}
	defer h.Close()
	_, err = m.client.Detach(ctx)
	if werr := attach.AwaitProcess(ctx, h); werr != nil {
		return errors.Join(werr, err)
	}
	if errors.Is(err, export.ErrNoProcess) {
		return nil // it ended before it could answer, or by itself
	}
	if errors.Is(err, blockdev.ErrOutcomeUnknown) {
		return fmt.Errorf("writes that did not come back in time may be there or not: %w", err)
	}
	return err
}

// gone tells the end of the process from other errors.
func gone(err error) error {
	if errors.Is(err, export.ErrNoProcess) || errors.Is(err, export.ErrDetached) {
		return fmt.Errorf("%w: %w", attach.ErrGone, err)
	}
	return err
}

func status(s export.Status) attach.Status {
	return attach.Status{
		Seq: s.Seq, SizeBytes: s.MaxBytes, AllocatedBytes: s.AllocatedBytes, HighBytes: s.HighBytes, WantBytes: s.WantBytes, Low: s.Low,
		Waiting: s.Waiting, Waited: s.Waited, Denied: s.Denied, GrowRate: s.GrowRate, Clients: s.Connections, LeaseErrors: s.LeaseErrors,
		DeviceErrors: s.DeviceErrors, LastError: s.LastError,
	}
}
