package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/mailbox"
)

const (
	// idleTime covers what either side does seldom: a host looks at its page once a minute, the SPM at all pages each 10 s.
	idleTime = 3 * time.Minute
	// idlePages is the size of each of the mailbox's volumes, in pages.
	idlePages = 250
	// What VDSM's sides read each second when nothing goes on: an SPM all pages each 2 s and the event block each 0.5 s,
	// a host its page each 2 s.
	vdsmIdleSPM  = idlePages*mailbox.PageSize/2.0 + mailbox.PageSize/0.5
	vdsmIdleHost = mailbox.PageSize / 2.0
)

// idleRun counts in the background, because idleness takes its time.
type idleRun struct {
	wg        sync.WaitGroup
	host, spm ioCount // per second
	err       error
}

// startMailbox begins to count the I/O of an idle mailbox.
func (b *bench) startMailbox(ctx context.Context) error {
	b.idle.wg.Go(func() { b.idle.err = b.idle.count(ctx, filepath.Join(b.o.dir, "mailbox")) })
	return nil
}

// reportMailbox waits for the counts.
func (b *bench) reportMailbox(context.Context) error {
	b.idle.wg.Wait()
	if b.idle.err != nil {
		return b.idle.err
	}
	b.report.idle("I/O of an idle mailbox per second, the SPM", b.idle.spm, vdsmIdleSPM)
	b.report.idle("I/O of an idle mailbox per second, a host", b.idle.host, vdsmIdleHost)
	return nil
}

// idle is a line that holds bytes per second against what VDSM's code does.
func (r *benchReport) idle(what string, ours ioCount, theirs float64) {
	ratio := ours.bytes() / theirs
	r.rows = append(r.rows, benchRow{what: what, value: ours.String(), peer: formatSize(int64(theirs)) + " (VDSM, by its source)",
		ratio: fmt.Sprintf("1/%.1f", 1/ratio), goal: "< 1", met: verdict(ratio < 1)})
}

// everHeld is a guard for files of our own.
type everHeld struct{}

// Check implements blockdev.Guard.
func (everHeld) Check(time.Duration) error { return nil }

// Epoch implements blockdev.Guard.
func (everHeld) Epoch() uint64 { return 1 }

// alwaysDone answers every request with yes.
type alwaysDone struct{}

// Extend implements mailbox.Handler.
func (alwaysDone) Extend(context.Context, mailbox.Request) error { return nil }

// count runs both sides, has them busy once, and then counts what they do with nothing to do.
func (r *idleRun) count(ctx context.Context, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*idleTime)
	defer cancel()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var devs [2]blockdev.Device
	for i, name := range []string{"inbox", "outbox"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, idlePages*mailbox.PageSize), 0o600); err != nil {
			return err
		}
		if devs[i], err = blockdev.Open(ctx, path, blockdev.Options{}); err != nil {
			return err
		}
		defer devs[i].Close()
	}
	host, spm := idleMeters(devs), idleMeters(devs)
	log := slog.New(slog.DiscardHandler)
	h, err := mailbox.NewHost(mailbox.HostConfig{Inbox: host[0], Outbox: host[1], HostID: 1, Options: mailbox.DefaultHostOptions(), Log: log})
	if err != nil {
		return err
	}
	s, err := mailbox.NewServer(mailbox.ServerConfig{Inbox: spm[0], Outbox: spm[1], Guard: everHeld{}, Handler: alwaysDone{},
		Options: mailbox.DefaultServerOptions(), Log: log})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { errs[0] = h.Run(run) })
	wg.Go(func() { errs[1] = s.Run(run) })
	err = r.watch(run, h, host, spm)
	stop()
	wg.Wait()
	return errors.Join(err, errs[0], errs[1])
}

// idleMeters count what one side does to both volumes.
func idleMeters(devs [2]blockdev.Device) (m [2]*countingDevice) {
	for i, d := range devs {
		m[i] = &countingDevice{Device: d}
	}
	return m
}

// watch lets one request go through, and counts from when all that it caused is over.
func (r *idleRun) watch(ctx context.Context, h *mailbox.Host, host, spm [2]*countingDevice) error {
	if err := h.Extend(ctx, mailbox.Message{SizeMiB: 1}); err != nil {
		return err
	}
	settled := mailbox.DefaultServerOptions()
	if err := pass(ctx, settled.FullScan+settled.ActiveFor); err != nil {
		return err
	}
	for _, d := range []*countingDevice{host[0], host[1], spm[0], spm[1]} {
		_ = d.taken(1)
	}
	begun := time.Now()
	if err := pass(ctx, idleTime); err != nil {
		return err
	}
	seconds := time.Since(begun).Seconds()
	r.host, r.spm = perSecond(host, seconds), perSecond(spm, seconds)
	return nil
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// perSecond adds up what one side did.
func perSecond(m [2]*countingDevice, seconds float64) ioCount {
	a, b := m[0].taken(1), m[1].taken(1)
	return ioCount{reads: (a.reads + b.reads) / seconds, writes: (a.writes + b.writes) / seconds, flushes: (a.flushes + b.flushes) / seconds,
		readBytes: (a.readBytes + b.readBytes) / seconds, writeBytes: (a.writeBytes + b.writeBytes) / seconds}
}
