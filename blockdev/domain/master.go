package domain

import (
	"bytes"
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

// A pool's master changes in four commits, each of one volume group: the old master notes who is to take over; the new one becomes
// master, which is what counts; the old one steps down; its note goes. DESIGN.md tells what a crash leaves.

// Master is what the domain's keys say about the pool's master.
func (d *Domain) Master() MasterState {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.keys.masterState()
}

// AnnounceMaster notes on the present master who is to take over. The zero value takes the note away.
func (w *Writer) AnnounceMaster(ctx context.Context, next NextMaster) error {
	return w.changeKeys(ctx, "who is to be master", func(k Keys) { k.setNext(next) })
}

// BecomeMaster makes the domain the pool's master. Its mailbox must have been cleared.
func (w *Writer) BecomeMaster(ctx context.Context, s MasterSpec) error {
	if s.Version < 1 || s.Version > maxMasterVersion || !validUUID(s.Pool) {
		return fmt.Errorf("making domain %s the master of pool %.40q with version %d: %w", w.d.uuid(), s.Pool, s.Version, ErrInvalid)
	}
	return w.changeKeys(ctx, "become master", func(k Keys) { k.become(s) })
}

// StepDown makes the domain a plain one. What it notes about its successor stays.
func (w *Writer) StepDown(ctx context.Context) error {
	return w.changeKeys(ctx, "step down as master", Keys.stepDown)
}

// SetMembers lists the pool's domains on its master.
func (w *Writer) SetMembers(ctx context.Context, list []MemberStatus) error {
	return w.changeKeys(ctx, "list the domains of the pool", func(k Keys) { k.listMembers(list) })
}

// changeKeys commits a change of the keys, if there is any. Errors other than ErrOutcomeUnknown mean that nothing has changed.
func (w *Writer) changeKeys(ctx context.Context, what string, edit func(Keys)) error {
	err := w.q.submit(ctx, &request{alone: func(ctx context.Context) error { return w.commitKeys(ctx, what, edit) }})
	if err != nil {
		return fmt.Errorf("domain %s: %s: %w", w.d.uuid(), what, err)
	}
	return nil
}

func (w *Writer) commitKeys(ctx context.Context, what string, edit func(Keys)) error {
	if w.doubt != nil {
		return w.doubt
	}
	keys := w.d.Keys()
	edit(keys)
	id, err := parseIdentity(keys)
	if err != nil {
		return err
	}
	tx := w.d.group.Begin()
	add, del := keys.changes(tx.VG().Tags)
	if len(add)+len(del) == 0 {
		return nil
	}
	if err := tx.ChangeVGTags(add, del); err != nil {
		return err
	}
	if err := w.commit(ctx, tx, fmt.Sprintf("holdfast: %s, epoch %d", what, w.Epoch())); err != nil {
		return err
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.keys, w.d.id = keys, id
	return nil
}

// mailboxBytes is how much of inbox and outbox has pages.
const mailboxBytes = 1024000

// ClearMailbox empties the mailbox of a domain that is to become master: pages may lie there from when it was one before, and
// would be taken for requests. Nobody uses it while the domain is not the master. A write that was given up may land later: before the
// domain becomes master all device calls must have come back.
func (w *Writer) ClearMailbox(ctx context.Context) error {
	for _, name := range []string{"inbox", "outbox"} {
		dev, err := w.device(name)
		if err == nil {
			err = w.d.io.zero(ctx, dev, 0, mailboxBytes)
		}
		if err == nil {
			err = w.d.io.flush(ctx, dev)
		}
		if err != nil {
			return fmt.Errorf("clearing %s of domain %s: %w", name, w.d.uuid(), err)
		}
	}
	return nil
}

// CopyMaster makes the volume master equal to that of the last master, whose file system a VDSM that becomes SPM mounts. Nobody
// has it mounted here: it is copied as it lies, as far as it differs, which it does in few places.
func (w *Writer) CopyMaster(ctx context.Context, from blockdev.Device) error {
	to, err := w.device("master")
	if err != nil {
		return err
	}
	if from.Size() > to.Size() {
		return fmt.Errorf("the last master's volume master has %d bytes, this one %d: %w", from.Size(), to.Size(), ErrInvalid)
	}
	want, have := make([]byte, mib), make([]byte, mib)
	for off := int64(0); off < from.Size(); off += mib {
		n := min(mib, from.Size()-off)
		if err := w.copyChunk(ctx, to, from, want[:n], have[:n], off); err != nil {
			return fmt.Errorf("copying the volume master: %w", err)
		}
	}
	if err := w.d.io.flush(ctx, to); err != nil {
		return fmt.Errorf("copying the volume master: %w", err)
	}
	return nil
}

func (w *Writer) copyChunk(ctx context.Context, to, from blockdev.Device, want, have []byte, off int64) error {
	if err := w.d.io.read(ctx, from, want, off); err != nil {
		return err
	}
	if err := w.d.io.read(ctx, to, have, off); err != nil {
		return err
	}
	if bytes.Equal(want, have) {
		return nil
	}
	return w.d.io.write(ctx, to, want, off)
}
