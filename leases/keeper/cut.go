package keeper

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Cut sees to it that no write of a device is under way when it returns nil, and that none will be. One that is not there is cut
// off. It returns soon after ctx has ended, whatever the device does.
//
// A lease that is tied to a process is as good as that process is at ending what it does. A device of the kernel's outlives the
// process that looks after it: without this, the death of that process would free the lease under a device that others write to.
type Cut func(ctx context.Context, device string) error

// cutTimeout bounds one try, cutRetry is the pause before the next.
const (
	cutTimeout = 10 * time.Second
	cutRetry   = 100 * time.Millisecond
)

// cutting is a try to cut off all devices of a lease. Tries come one after the other.
func cutting(cut Cut, devices []string, log *slog.Logger) func(context.Context) error {
	var one sync.Mutex // guards warned, and the order of tries
	warned := false
	return func(ctx context.Context) error {
		one.Lock()
		defer one.Unlock()
		ctx, cancel := context.WithTimeout(ctx, cutTimeout)
		defer cancel()
		var errs []error
		for _, d := range devices {
			if err := cut(ctx, d); err != nil {
				errs = append(errs, err)
			}
		}
		err := errors.Join(errs...)
		if err != nil && !warned {
			warned = true
			log.Error("a device cannot be cut off; its lease is kept", "error", err)
		}
		return err
	}
}

// cutOff cuts the devices off, however long that takes: until then the lease stays, and where it is lost the watchdog has the
// word. False: nobody cares any more.
func (t *tied) cutOff() bool {
	if t.cut == nil {
		return true
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	t.wg.Go(func() {
		select {
		case <-t.quit:
			cancel()
		case <-done:
		}
	})
	for t.cut(ctx) != nil {
		select {
		case <-t.quit:
			return false
		case <-time.After(cutRetry):
		}
	}
	return true
}

// cutOnce tries once, while the processes are still there: they may undo it, so cutOff comes behind their end all the same.
func (t *tied) cutOnce() {
	if t.cut != nil {
		_ = t.cut(context.Background()) // bounded by cutTimeout, and logged
	}
}
