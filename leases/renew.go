package leases

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// retryRenewal is the pause after a renewal that failed.
const retryRenewal = 500 * time.Millisecond

// Run renews the host id until the context ends (nil) or the lockspace is lost (an ErrLost that says why). It does
// nothing else, and between two renewals nothing at all.
func (ls *Lockspace) Run(ctx context.Context) error {
	for pause(ctx, ls.untilRenewal()) == nil {
		if err := ls.renewOrFail(ctx); err != nil || ls.gone() {
			return err
		}
	}
	return nil
}

// gone says whether Leave was called.
func (ls *Lockspace) gone() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.left
}

// untilRenewal is the time to wait before the next attempt.
func (ls *Lockspace) untilRenewal() time.Duration {
	ls.renewing <- struct{}{}
	ok := ls.lastOK
	<-ls.renewing
	ls.mu.Lock()
	defer ls.mu.Unlock()
	due := ls.lastRenew + ls.cfg.Profile.RenewalPeriod() - ls.now()
	if !ok || due < 0 {
		return retryRenewal
	}
	return due
}

// renewOrFail makes one attempt and decides whether the lockspace is lost.
func (ls *Lockspace) renewOrFail(ctx context.Context) error {
	err := ls.renew(ctx)
	age := ls.now() - ls.lastRenewal()
	switch {
	case err == nil, ctx.Err() != nil, ls.gone():
		return nil
	case isFinal(err), age >= ls.cfg.Profile.Expiry():
		return ls.fail(err)
	}
	ls.cfg.Log.Warn("renewal failed, retrying", "lockspace", ls.cfg.Name, "age", age.Round(time.Millisecond), "error", err)
	return nil
}

func (ls *Lockspace) lastRenewal() time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.lastRenew
}

// errStolen is the reason of a loss that no later renewal can undo.
var errStolen = errors.New("our record is not ours any more")

// isFinal says whether a renewal error leaves nothing to hope for: the record was overwritten or is garbage.
func isFinal(err error) bool {
	for _, final := range []error{errStolen, ErrNoLease, ErrVersion, ErrCorrupt, ErrGeometry} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// renew looks at all hosts, checks our own record and writes it with a new timestamp.
func (ls *Lockspace) renew(ctx context.Context) error {
	if err := ls.only(ctx); err != nil {
		return err
	}
	defer func() { <-ls.renewing }()
	if ls.gone() {
		return nil
	}
	ls.lastOK = false
	if err := ls.look(ctx, ls.renewals%lookAllEvery == 0); err != nil {
		return err
	}
	// Never a second write beside one that may still land.
	if ls.unsettled && ls.cfg.Device.Pending() > 0 {
		return fmt.Errorf("renewing: %w", blockdev.ErrPending)
	}
	if err := ls.writeRenewal(ctx); err != nil {
		return err
	}
	ls.renewals++
	ls.lastOK, ls.unsettled = true, false
	return nil
}

// writeRenewal writes our record. The lease is counted from the time taken before the write. A write that is given up
// at 8N gains nothing by being given up earlier.
func (ls *Lockspace) writeRenewal(ctx context.Context) error {
	start := ls.now()
	left := ls.lastRenewal() + ls.cfg.Profile.Expiry() - start
	if ls.renewals == 0 {
		left = ls.cfg.Profile.IOTimeout // joining took 2N of the record's former writer, which may be more than our 8N
	}
	if left <= 0 {
		return fmt.Errorf("renewing: %w: too late", ErrLost)
	}
	l := ls.own
	l.Timestamp, l.IOTimeout = stamp(start), ls.cfg.Profile.seconds()
	clear(ls.sector)
	ls.announce(&l, (*Bitmap)(ls.sector[bitmapOffset:bitmapOffset+bitmapSize]), start)
	l.Encode(ls.sector)
	end := start + left
	wctx, cancel := context.WithTimeout(blockdev.WithSubmitCheck(ctx, func() error { return ls.notAfter(end) }), left)
	defer cancel()
	if err := writeSync(wctx, ls.cfg.Device, ls.sector, ls.recordOffset(ls.cfg.HostID)); err != nil {
		ls.unsettled = maybeDone(err) && !ls.cfg.Bugs.IgnoreLateWrite
		ls.doubtful = ls.doubtful || ls.unsettled
		return fmt.Errorf("writing the renewal: %w", err)
	}
	ls.own = l
	if ls.cfg.Bugs.TimeAfterWrite {
		start = ls.now()
	}
	ls.renewed(start)
	return nil
}

// notAfter refuses a renewal that is submitted when the lease is over already, after a long sleep of this goroutine.
func (ls *Lockspace) notAfter(end time.Duration) error {
	if ls.now() >= end {
		return fmt.Errorf("%w: too late", ErrLost)
	}
	return nil
}

// renewed publishes a renewal.
func (ls *Lockspace) renewed(start time.Duration) {
	ls.mu.Lock()
	ls.lastRenew = start
	ls.mu.Unlock()
	if ls.cfg.OnRenew != nil {
		ls.cfg.OnRenew(start)
	}
}

// only waits until no renewal, look or leave is under way.
func (ls *Lockspace) only(ctx context.Context) error {
	select {
	case ls.renewing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look reads the records of all hosts, or of those that may be in use, and remembers what changed. The caller holds
// renewing.
func (ls *Lockspace) look(ctx context.Context, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, ls.cfg.Profile.IOTimeout)
	defer cancel()
	hosts := ls.coverage(all)
	perChunk := len(ls.area) / ls.geo.SectorSize
	for first := 0; first < hosts; first += perChunk {
		n := min(perChunk, hosts-first)
		buf := ls.area[:n*ls.geo.SectorSize]
		if err := ls.cfg.Device.ReadAt(ctx, buf, ls.recordOffset(first+1)); err != nil {
			return fmt.Errorf("reading lockspace %s: %w", ls.cfg.Name, err)
		}
		err := ls.takeIn(buf, first)
		ls.deliver()
		if err != nil {
			return err
		}
	}
	return nil
}

// coverage is how many records, from the first on, the next look reads.
func (ls *Lockspace) coverage(all bool) int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if all {
		return len(ls.hosts)
	}
	return ls.cover
}

// takeIn remembers the records in buf, the first of which is that of host first+1, and checks ours if it is there.
func (ls *Lockspace) takeIn(buf []byte, first int) error {
	now, size := ls.now(), ls.geo.SectorSize
	ls.mu.Lock()
	for i := 0; i*size < len(buf); i++ {
		o, b := &ls.hosts[first+i], buf[i*size:(i+1)*size]
		known := o.seen // what stands in a record at first sight may have stood there for long
		if o.look(b, &ls.space, now) && known && first+i+1 != ls.cfg.HostID {
			if n, ok := o.heard.listen(b, ls.cfg.HostID, first+i+1, o.generation, now, ls.cfg.Profile.keepNotice()); ok {
				ls.news = append(ls.news, n)
			}
		}
		if o.timestamp != 0 || o.everLive {
			ls.cover = max(ls.cover, first+i+1)
		}
	}
	ls.mu.Unlock()
	if i := ls.cfg.HostID - 1 - first; i >= 0 && i*size < len(buf) {
		return ls.checkOwn(buf[i*size:])
	}
	return nil
}

// checkOwn verifies that the record on disk is still ours.
func (ls *Lockspace) checkOwn(b []byte) error {
	var l Leader
	if err := ls.decodeRecord(&l, b, ls.cfg.HostID); err != nil {
		return err
	}
	if l.OwnerID != ls.own.OwnerID || l.OwnerGeneration != ls.own.OwnerGeneration || !l.Resource.equal(ls.host) {
		return fmt.Errorf("%w: owner %d, generation %d, host %s", errStolen, l.OwnerID, l.OwnerGeneration, l.Resource)
	}
	if l != ls.own && !ls.doubtful {
		return fmt.Errorf("%w: it differs from what we wrote last (timestamp %d, ours %d)", errStolen, l.Timestamp, ls.own.Timestamp)
	}
	return nil
}

// Look reads all records now instead of at the next renewal.
func (ls *Lockspace) Look(ctx context.Context) error {
	if err := ls.only(ctx); err != nil {
		return err
	}
	defer func() { <-ls.renewing }()
	return ls.look(ctx, true)
}

// HostStatus is the state of one host. Asking for it makes every later look read that host.
func (ls *Lockspace) HostStatus(id int) HostStatus {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if id < 1 || id > len(ls.hosts) {
		return HostStatus{HostID: id, State: HostUnknown}
	}
	ls.cover = max(ls.cover, id)
	return ls.statusOf(id)
}

// Hosts is the state of every host that has or had its host id.
func (ls *Lockspace) Hosts() []HostStatus {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var all []HostStatus
	for i := range ls.hosts {
		if ls.hosts[i].owner != 0 || ls.hosts[i].timestamp != 0 {
			all = append(all, ls.statusOf(i+1))
		}
	}
	return all
}

// statusOf judges host id; the caller holds mu.
func (ls *Lockspace) statusOf(id int) HostStatus {
	s := ls.hosts[id-1].status(id, ls.cfg.Profile, ls.now())
	if id == ls.cfg.HostID && ls.lost == nil && !ls.left {
		s.State, s.DeadIn = HostLive, 0
	}
	return s
}
