package host

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/leases/keeper"
)

// lockspaceLost is told by the keeper that leases of this agent are void. Guards fail already, so nothing new is written;
// what is on its way must come back before the keeper is told so. If it does not in time, the keeper ends this process.
func (rt *runtime) lockspaceLost(l keeper.Loss) {
	rt.log.Error("leases were lost with their lockspace", "lockspace", l.Lockspace, "reason", l.Reason, "ended_in", l.KillIn)
	rt.losses.Go(func() {
		if err := rt.confirmLoss(l); err != nil {
			rt.log.Warn("telling the keeper that no I/O is pending", "lockspace", l.Lockspace, "err", err)
		}
	})
}

// confirmLoss waits until no device call is pending and says so. The SPM's lease stands for writes to every domain, so all
// of them count. An nbd server may carry a request out for as long as its deadline lasts after the connection broke.
func (rt *runtime) confirmLoss(l keeper.Loss) error {
	ctx, cancel := untilClosed(rt.closing)
	defer cancel()
	rt.awaitPending(ctx)
	pause(ctx, min(rt.profile.IOTimeout, l.KillIn/4))
	if ctx.Err() != nil {
		return nil // the keeper ends, or is left alone: it needs no word
	}
	ctx, stop := context.WithTimeout(ctx, rt.profile.IOTimeout)
	defer stop()
	return rt.keeper.Confirm(ctx, l.Lockspace)
}

// stoppedForGood says that no other runtime follows on this one.
func (rt *runtime) stoppedForGood() bool {
	select {
	case <-rt.stopped:
		return true
	default:
		return false
	}
}

// untilClosed is a context that ends when c is closed.
func untilClosed(c <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-c:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-done }
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
