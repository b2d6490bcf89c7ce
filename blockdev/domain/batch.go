package domain

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// batch is what one leader carries out: births, growth and deaths of volumes in one or two commits.
type batch struct {
	w       *Writer
	tx      *lvm2.Tx
	births  map[string]*birth
	growths map[string]*growth
	deaths  map[string]*death
	order   []*birth // births in the order of their slots
	stall   error    // a write with unknown outcome: nothing more may be submitted
}

// run carries out what the queue gathered. It answers every request.
func (w *Writer) run(ctx context.Context, reqs []*request) {
	if len(reqs) == 1 && reqs[0].alone != nil {
		reqs[0].err = reqs[0].alone(ctx)
		return
	}
	if w.refuses(reqs) {
		return
	}
	if reqs = w.edit(ctx, reqs); len(reqs) == 0 || w.refuses(reqs) {
		return
	}
	b := &batch{w: w, tx: w.d.group.Begin(), births: map[string]*birth{}, growths: map[string]*growth{},
		deaths: map[string]*death{}}
	for _, r := range b.planGrowths(reqs) {
		b.plan(r)
	}
	b.carryOut(ctx)
	b.answer()
}

// refuses answers all requests when nothing may be written before a refresh.
func (w *Writer) refuses(reqs []*request) bool {
	for _, r := range reqs {
		r.err = w.doubt
	}
	return w.doubt != nil
}

func (b *batch) plan(r *request) {
	switch {
	case r.create != nil:
		b.planBirth(r)
	case r.remove != "":
		b.planDeath(r, r.remove)
	default:
		b.planReap(r)
	}
}

// carryOut writes, commits, and finishes the deletions.
func (b *batch) carryOut(ctx context.Context) {
	b.sortBirths()
	b.writeDeaths(ctx)
	b.dropFailed()
	if err := b.commit(ctx); err != nil {
		b.failAll(err)
		b.undo(ctx)
		return
	}
	b.born(ctx)
	b.grown()
	b.bury(ctx)
}

// commit makes the writes durable and then, all at once, visible.
func (b *batch) commit(ctx context.Context) error {
	if b.stall != nil {
		return b.stall
	}
	if !b.live() {
		return nil
	}
	err := b.w.commitWith(ctx, b.tx, b.describe(), b.writeHidden)
	if !errors.Is(err, errReplan) {
		return err
	}
	b.dropFailed()
	if b.stall != nil {
		return b.stall
	}
	if !b.live() {
		return nil
	}
	return b.w.commit(ctx, b.tx, b.describe())
}

// errReplan stops a commit before it has changed anything, because a member failed and must not be part of it.
var errReplan = errors.New("a member of the batch failed before the commit")

// writeHidden writes the births while the text of the metadata, which nothing refers to either, goes out.
func (b *batch) writeHidden(ctx context.Context) error {
	b.writeBirths(ctx)
	if b.stall != nil {
		return b.stall
	}
	for _, m := range b.births {
		if m.err != nil {
			return errReplan
		}
	}
	return nil
}

// live tells whether any member is left that the commit is for.
func (b *batch) live() bool {
	for _, m := range b.births {
		if m.err == nil {
			return true
		}
	}
	for _, m := range b.growths {
		if m.err == nil {
			return true
		}
	}
	for _, m := range b.deaths {
		if m.err == nil && m.tagged {
			return true
		}
	}
	return false
}

// describe is the text that LVM keeps for the commit.
func (b *batch) describe() string {
	return fmt.Sprintf("holdfast: create %d, extend %d, delete %d, epoch %d", len(b.births), len(b.growths), len(b.deaths), b.w.Epoch())
}

// stalled turns an I/O error before the commit into what callers get: where an outcome is unknown the write may still
// land, so that nothing must be reused before it has come back.
func (w *Writer) stalled(what string, err error) error {
	if !unanswered(err) {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = fmt.Errorf("%s: %w: %v", what, ErrStalled, err) //nolint:errorlint // the outcome of the request is known
	w.doubt = fmt.Errorf("an earlier request stalled; refresh first: %w", err)
	return err
}

// unanswered tells whether a device call may still be under way.
func unanswered(err error) bool {
	return errors.Is(err, blockdev.ErrOutcomeUnknown) || errors.Is(err, blockdev.ErrTimeout) || errors.Is(err, blockdev.ErrPending)
}

// failAll fails every member that has no error of its own.
func (b *batch) failAll(err error) {
	for _, m := range b.births {
		if m.err == nil {
			m.err = err
		}
	}
	for _, m := range b.growths {
		if m.err == nil {
			m.err = err
		}
	}
	for _, m := range b.deaths {
		if m.err == nil {
			m.err = err
		}
	}
}

// dropFailed takes members that failed out of the transaction, so that the others go on.
func (b *batch) dropFailed() {
	for _, m := range b.births {
		if m.err != nil {
			b.drop(m)
		}
	}
	for id, m := range b.deaths {
		if m.err != nil && m.tagged {
			if err := b.tx.ChangeLVTags(id, m.oldTags(), m.newTags()); err != nil {
				b.stall = fmt.Errorf("taking volume %s out of the batch: %w", id, err)
			}
		}
	}
}

func (b *batch) drop(m *birth) {
	if m.lv == nil {
		return
	}
	if err := b.tx.RemoveLV(m.spec.ID); err != nil {
		b.stall = fmt.Errorf("taking volume %s out of the batch: %w", m.spec.ID, err)
	}
	m.lv = nil
}

// answer gives every request its own result.
func (b *batch) answer() {
	for _, m := range b.births {
		for _, r := range m.reqs {
			r.vol, r.err = m.vol, m.err
		}
	}
	b.answerGrowths()
	for _, m := range b.deaths {
		b.keepSlot(m)
		for _, r := range m.reqs {
			r.gone, r.err, r.held = m.gone, m.err, m.held
		}
	}
}
