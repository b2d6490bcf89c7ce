package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/blockdev/qcow2"
	"github.com/holdfast-io/holdfast/cluster/spm"
)

// point is where in a history a crash came: before a step was acknowledged, or right after it was.
type point struct {
	h     *history
	step  int
	acked bool
}

// recovered is what became of one state.
type recovered struct {
	rec     *faulty.Recorder // all that was written after the crash
	start   int              // so much of it until the next SPM served
	changed bool             // it finished or rolled something back
}

// recover recovers one state as the next SPM would, goes on from there, and says what is wrong.
func (p point) recover(ctx context.Context, lun *blockdev.Mem) (*recovered, error) {
	r := &recovered{rec: faulty.NewRecorder(lun)}
	w := &world{dev: r.rec}
	if err := w.start(ctx); err != nil {
		return r, fmt.Errorf("unrecoverable: %w", err)
	}
	r.start, r.changed = r.rec.Len(), w.a.report.Changed()
	err := p.serving(ctx, w, lun)
	if err != nil {
		w.a.crash(ctx)
		return r, err
	}
	if err := w.a.stop(ctx); err != nil {
		return r, err
	}
	return r, clean(ctx, lun)
}

// serving judges the domain under its new SPM, and asks for what was cut short again, and for something new.
func (p point) serving(ctx context.Context, w *world, lun *blockdev.Mem) error {
	got, err := take(ctx, lun)
	if err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	now, err := p.which(got)
	if err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	if list, err := w.a.role.Volumes(); err != nil || !maps.Equal(volumes(list), got.vols) {
		return fmt.Errorf("the SPM does not say what is on the LUN: %w", err)
	}
	if w.a.epoch <= now.epoch && !p.taking() {
		return fmt.Errorf("serving under epoch %d after %d", w.a.epoch, now.epoch)
	}
	if err := buried(ctx, got.d, now); err != nil {
		return err
	}
	if err := p.again(ctx, w, lun); err != nil {
		return err
	}
	req := spm.CreateRequest{Key: "fresh", Name: "fresh", Size: 100 * mib}
	if _, err := w.a.role.CreateVolume(ctx, req); err != nil {
		return fmt.Errorf("create after recovery: %w", err)
	}
	if kind := p.h.steps[p.step].kind; kind != 'l' && kind != 'x' {
		return nil
	}
	_, err = w.a.role.CreateLease(ctx, "", leaseID(0xffff))
	return err
}

// taking tells whether the crash came while the role changed hands.
func (p point) taking() bool { return strings.IndexByte("stm", p.h.steps[p.step].kind) >= 0 }

// which tells whether the step that was cut short has happened. It must have, once it was acknowledged.
func (p point) which(got *snapshot) (moment, error) {
	before, after := p.h.before[p.step], p.h.before[p.step+1]
	happened := after.differs(got)
	if happened == nil {
		return after, nil
	}
	if p.acked {
		return after, fmt.Errorf("acknowledged, but: %w", happened)
	}
	if p.h.steps[p.step].kind == 'd' {
		got = legal(got, before.snapshot)
	}
	not := before.differs(got)
	if not == nil {
		return before, nil
	}
	return before, fmt.Errorf("neither done (%w) nor not done (%w)", happened, not)
}

// legal forgives that a volume whose deletion was cut short is marked illegal: whoever asked for it asks again.
func legal(got, want *snapshot) *snapshot {
	s := *got
	s.vols = maps.Clone(s.vols)
	for id, v := range s.vols {
		if v.Legality == domain.Illegal && want.vols[id].Legality == domain.Legal {
			v.Legality = domain.Legal
			s.vols[id] = v
		}
	}
	return &s
}

// buried judges the metadata slots of deleted volumes: until another volume takes the place, it must say illegal, so that a
// host which still sees the old LV does not use it.
func buried(ctx context.Context, d *domain.Domain, now moment) error {
	dev, err := d.Device("metadata")
	if err != nil {
		return err
	}
	for _, v := range now.dead {
		b := make([]byte, sector)
		if err := dev.ReadAt(ctx, b, mib+int64(v.Slot)*8192); err != nil {
			return err
		}
		if bytes.Contains(b, []byte(`"`+v.Name+`"`)) && bytes.Contains(b, []byte("LEGALITY=LEGAL\n")) {
			return fmt.Errorf("volume %s is deleted, and its slot %d still calls it legal", v.ID, v.Slot)
		}
	}
	return nil
}

// again asks once more for what was cut short.
func (p point) again(ctx context.Context, w *world, lun *blockdev.Mem) error {
	if p.acked || p.taking() {
		return nil
	}
	if err := p.h.steps[p.step].ask(ctx, w); err != nil {
		return fmt.Errorf("asking again: %w", err)
	}
	got, err := take(ctx, lun)
	if err == nil {
		err = p.h.before[p.step+1].differs(got)
	}
	if err != nil {
		return fmt.Errorf("after asking again: %w", err)
	}
	return nil
}

// clean is the domain's own check. A resource of an external lease without a record is a leftover that harms nobody.
func clean(ctx context.Context, lun *blockdev.Mem) error {
	d, err := openDomain(ctx, lun, domainOptions())
	if err != nil {
		return fmt.Errorf("opening the domain in the end: %w", err)
	}
	found, err := domain.Check(ctx, d)
	for _, f := range found {
		if !harmless(f) {
			err = errors.Join(err, errors.New(f.String()))
		}
	}
	return errors.Join(err, heads(ctx, d))
}

func harmless(f domain.Finding) bool {
	return f.Severity == domain.SeverityNote && strings.HasPrefix(f.Where, "xleases") &&
		(strings.HasSuffix(f.What, "has no record") || strings.HasPrefix(f.What, "its place holds a damaged resource"))
}

// heads looks at the headers of all qcow2 volumes.
func heads(ctx context.Context, d *domain.Domain) error {
	for _, v := range d.Volumes() {
		if v.Format != domain.FormatQcow2 {
			continue
		}
		dev, err := d.Device(v.ID)
		if err != nil {
			return err
		}
		head, err := qcow2.ReadHeader(ctx, dev)
		if err != nil || head.Size != v.Capacity || head.BackingName != v.Parent {
			return fmt.Errorf("volume %s begins with %+v: %w", v.ID, head, err)
		}
	}
	return nil
}
