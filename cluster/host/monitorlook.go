package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
)

// look is what one check of a domain found.
type look struct {
	at           time.Time // when it ended
	status       string    // of the domain, by our mirror, when it began
	code, detail string
	delay        time.Duration // of the slowest LUN; 0: none answered
	info         domain.Info
	used, limit  int64 // of the metadata area
	use          domainUse
}

func (l look) valid() bool { return l.code == manager.DomainOK }

const (
	// probeBytes is what is read of each LUN to see how fast it answers: label and header of the first metadata area.
	probeBytes = 4096
	// wholeEvery is how often the volume group is read as if for the first time; between that, only what has changed.
	wholeEvery = 300 * time.Second
	// maxStuck bounds how many sets of devices may be left behind with reads that have not come back.
	maxStuck = 3
	// patientLooks is after how many hung looks the next opening waits, longer each time up to hungRetry.
	patientLooks = 3
	hungRetry    = 5 * time.Minute
)

// errStuck says that no further reads are sent before some have come back.
var errStuck = errors.New("reads of earlier looks have not come back, and no more are sent before they have")

// errPatient says that a path was not tried.
var errPatient = errors.New("the path hung when it was opened last; it is opened again later")

// look checks the domain once.
func (m *monitor) look(ctx context.Context, d fsm.Domain, anew bool) look {
	if anew {
		m.openAt = time.Time{}
	}
	l := look{status: d.CurrentStatus()}
	lctx, cancel := context.WithTimeout(ctx, 2*m.read)
	err := m.check(lctx, d, &l)
	if errors.Is(err, lvm2.ErrCorrupt) { // may have been read while the SPM wrote
		err = m.check(lctx, d, &l)
	}
	cancel()
	l.code, l.detail = codeOf(err)
	if err != nil {
		m.drop()
	}
	if !errors.Is(err, errPatient) {
		m.patience(l.code)
	}
	uctx, cancel := context.WithTimeout(ctx, m.read)
	l.use = m.use(uctx, d.ID)
	cancel()
	if l.code == manager.DomainOK && !l.use.acquired {
		l.code, l.detail = manager.DomainUnjoined, "this host's id is not held in the lockspace"+l.use.because()
	}
	l.at = time.Now()
	return l
}

// patience makes the opening of a path that hangs rarer: each attempt may leave a thread behind in the kernel.
func (m *monitor) patience(code string) {
	if code != manager.DomainHung {
		m.hung = 0
		return
	}
	if m.hung++; m.hung > patientLooks {
		m.openAt = time.Now().Add(min(m.cycle<<min(m.hung-patientLooks, 16), hungRetry))
	}
}

// check opens what is not open, measures a read of every LUN, and reads the volume group.
func (m *monitor) check(ctx context.Context, d fsm.Domain, l *look) error {
	opened, err := m.opened(ctx, d)
	if err != nil {
		return err
	}
	if l.delay, err = probeAll(ctx, opened.list(), m.read); err != nil {
		return err
	}
	return opened.complete(ctx, func(devs []blockdev.Device) error {
		return opened.group.read(ctx, devs, lvm2.Options{IOTimeout: m.read, Follow: true}, func(g *lvm2.Group) (err error) {
			l.used, l.limit = g.MetadataUse()
			if l.info, err = domain.Glance(g.VG()); err == nil && l.info.UUID != d.ID {
				err = fmt.Errorf("the LUNs hold domain %s: %w", l.info.UUID, domain.ErrNotDomain)
			}
			return err
		})
	})
}

// opened are the devices, opened if they are not.
func (m *monitor) opened(ctx context.Context, d fsm.Domain) (*luns, error) {
	m.reap()
	switch now := time.Now(); {
	case m.luns != nil && pendingOf(m.luns.list()) > 0:
		m.drop()
		return m.opened(ctx, d)
	case m.luns != nil && now.Sub(m.wholeAt) >= wholeEvery:
		m.luns.group = newFollower()
		m.wholeAt = now
		return m.luns, nil
	case m.luns != nil:
		return m.luns, nil
	case len(m.stuck) >= maxStuck:
		return nil, fmt.Errorf("%w: %w", blockdev.ErrPending, errStuck)
	case now.Before(m.openAt):
		return nil, fmt.Errorf("%w: %w, in %v", blockdev.ErrTimeout, errPatient, m.openAt.Sub(now).Round(time.Second))
	}
	opened, err := m.open(ctx, d)
	if err == nil {
		m.luns, m.wholeAt = opened, time.Now()
	}
	return opened, err
}

// drop closes the devices, so that the next look opens the paths anew. Nothing is disconnected.
func (m *monitor) drop() {
	if m.luns == nil {
		return
	}
	if err := m.luns.close(); err != nil {
		m.log.Debug("closing a monitor's devices", "err", err)
	}
	if pendingOf(m.luns.all()) > 0 {
		m.stuck = append(m.stuck, m.luns)
	}
	m.luns = nil
	m.reap()
}

// reap forgets devices whose last reads have come back.
func (m *monitor) reap() {
	var still []*luns
	for _, l := range m.stuck {
		if pendingOf(l.all()) > 0 {
			still = append(still, l)
		}
	}
	m.stuck = still
}

// probeAll reads the beginning of every LUN at the same time and returns how long the slowest took.
func probeAll(ctx context.Context, devs []blockdev.Device, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	took := make([]time.Duration, len(devs))
	var g errgroup.Group
	for i, dev := range devs {
		g.Go(func() error {
			begun := time.Now()
			err := dev.ReadAt(ctx, make([]byte, probeBytes), 0)
			took[i] = max(time.Since(begun), 1)
			if err != nil {
				return fmt.Errorf("reading %s: %w", dev.Name(), err)
			}
			return nil
		})
	}
	err := g.Wait()
	var slowest time.Duration
	for _, t := range took {
		slowest = max(slowest, t)
	}
	if err != nil {
		slowest = 0
	}
	return slowest, err
}

// codeOf says in one word what an error of a look means.
func codeOf(err error) (code, detail string) {
	switch {
	case err == nil:
		return manager.DomainOK, ""
	case errors.Is(err, blockdev.ErrTimeout), errors.Is(err, blockdev.ErrPending), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, blockdev.ErrOutcomeUnknown):
		code = manager.DomainHung
	case errors.Is(err, lvm2.ErrCorrupt), errors.Is(err, lvm2.ErrNotPV), errors.Is(err, lvm2.ErrForeign), errors.Is(err, lvm2.ErrSplitBrain),
		errors.Is(err, domain.ErrNotDomain), errors.Is(err, domain.ErrUnready), errors.Is(err, domain.ErrBadKeys),
		errors.Is(err, domain.ErrSealBroken), errors.Is(err, domain.ErrVersion):
		code = manager.DomainDamaged
	default:
		code = manager.DomainUnreachable
	}
	return code, shorten(err.Error())
}

// maxDetail bounds what a report says of one domain: it travels with pings.
const maxDetail = 512

func shorten(s string) string {
	if len(s) > maxDetail {
		return s[:maxDetail-3] + "..."
	}
	return s
}
