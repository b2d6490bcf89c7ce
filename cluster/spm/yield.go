package spm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Times of a hand-over that was asked for through the storage. Whoever asks that way found this host unreachable, so its mirror
// cannot be flushed either; the next SPM's reconcile brings what is missing.
const (
	yieldDrain = time.Second
	yieldFlush = 150 * time.Millisecond
)

// Yield gives the role up because another host asks for version of the lease through the storage. It returns at once; what
// came of it is told by an event, which is recorded when this host can do so. from names the host that asks; empty: unknown.
func (r *Role) Yield(version uint64, from string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && version > 0 {
		r.tasks.Go(func() { r.yield(version, from) })
	}
}

// yield stops in order. A lease that could not be released because writes are on their way is tried again.
func (r *Role) yield(version uint64, from string) {
	begun := r.cfg.Now()
	reason := "asked through the storage to hand over"
	if from != "" {
		reason += " (by " + from + ")"
	}
	rep, err := r.Stop(context.Background(), StopRequest{Epoch: version - 1, Reason: reason, hurry: true})
	if errors.Is(err, ErrChanged) {
		return // it is another epoch by now
	}
	for err != nil && !r.isClosed() {
		r.cfg.Log.Warn("handing over is not done yet", "epoch", version-1, "err", err)
		if !sleep(context.Background(), r.cfg.GuardPoll) {
			return
		}
		_, err = r.Stop(context.Background(), StopRequest{Epoch: version - 1, Reason: reason, hurry: true}) // what it ended, the first one said
	}
	if !rep.WasServing {
		return
	}
	message := fmt.Sprintf("%s handed the SPM role over: %s; %d ms from the request to the release, %d entries for the mirror were left to the next one",
		r.cfg.Host, reason, r.cfg.Now().Sub(begun).Milliseconds(), rep.Unmirrored)
	r.report(fsm.Warning, "spm.handed_over", reason, message, rep.Epoch)
}

func (r *Role) isClosed() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.closed }

// report records an event of the role.
func (r *Role) report(severity, kind, reason, message string, epoch uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), applyTimeout)
	defer cancel()
	err := r.cfg.Report(ctx, fsm.Event{Severity: severity, Kind: kind, Subject: "spm", Message: message, Reason: reason, Host: r.cfg.Host, Epoch: epoch,
		Time: r.cfg.Now().UnixNano()})
	if err != nil {
		r.cfg.Log.Warn("recording an event", "kind", kind, "message", message, "err", err)
	}
}
