package mailbox

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// ioContext gives one device call its deadline. The end of ctx does not end it: an abandoned write would be in doubt.
func ioContext(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// at is where this host's page is.
func (h *Host) at() int64 { return int64(h.cfg.HostID) * pageSize }

// readOwn reads our page in inbox.
func (h *Host) readOwn(ctx context.Context, p []byte) error {
	ctx, cancel := ioContext(ctx, h.cfg.Options.IOTimeout)
	defer cancel()
	h.stats.reads.Add(1)
	if err := h.cfg.Inbox.ReadAt(ctx, p, h.at()); err != nil {
		return fmt.Errorf("reading our own mailbox page: %w", err)
	}
	return nil
}

// readAnswers reads our page in outbox.
func (h *Host) readAnswers(ctx context.Context) error {
	ctx, cancel := ioContext(ctx, h.cfg.Options.IOTimeout)
	defer cancel()
	h.stats.reads.Add(1)
	if err := h.cfg.Outbox.ReadAt(ctx, h.page, h.at()); err != nil {
		return fmt.Errorf("reading answers: %w", err)
	}
	return nil
}

// write writes our page if it changed, and rings. While an earlier write may still land nothing is written: it would put
// back what was said before.
func (h *Host) write(ctx context.Context) error {
	if !h.slots.dirty {
		return nil
	}
	if h.doubt && h.cfg.Inbox.Pending() > 0 && !h.cfg.Bugs.HostWriteInDoubt {
		return errInDoubt
	}
	if plant.On(plant.MailOnce) && h.slots.asks.Load() > 1 {
		h.wrote(time.Now())
		return nil
	}
	ctx, cancel := ioContext(ctx, h.cfg.Options.IOTimeout)
	defer cancel()
	sealPage(h.slots.out)
	h.stats.writes.Add(1)
	if err := h.cfg.Inbox.WriteAt(ctx, h.slots.out, h.at()); err != nil {
		h.doubt = true
		return fmt.Errorf("writing our mailbox page: %w", err)
	}
	h.wrote(time.Now())
	h.ring(ctx)
	return nil
}

// wrote notes that the page is on the storage.
func (h *Host) wrote(now time.Time) {
	h.slots.dirty, h.doubt, h.written, h.checked = false, false, now, now
}

// ring tells the SPM to look. Hosts race for the event block, and a ring that fails only costs time.
func (h *Host) ring(ctx context.Context) {
	var id UUID
	binary.LittleEndian.PutUint64(id[:], h.rng.Uint64())
	binary.LittleEndian.PutUint64(id[8:], h.rng.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a random UUID, version 4
	h.stats.writes.Add(1)
	if err := h.cfg.Inbox.WriteAt(ctx, encodeEvent(id), 0); err != nil {
		h.log.Debug("ringing failed", "error", err)
	}
}
