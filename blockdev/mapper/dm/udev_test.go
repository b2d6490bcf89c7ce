package dm

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// countDown does what udev's rule does with the number that came with an event.
func countDown(t *testing.T, event uint32) {
	t.Helper()
	key := uintptr(cookieMagic)<<flagsShift | uintptr(event&0xffff)
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, key, 1, 0)
	if errno != 0 {
		t.Errorf("finding the semaphore of event %#x: %v", event, errno)
		return
	}
	c := cookie{id: id}
	if err := c.add(-1, time.Second); err != nil {
		t.Errorf("counting down: %v", err)
	}
}

func exists(event uint32) bool {
	_, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(cookieMagic)<<flagsShift|uintptr(event&0xffff), 1, 0)
	return errno == 0
}

func beginCookie(t *testing.T) ticket {
	t.Helper()
	c, err := udevd{}.begin()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCookie_waitsForUdev(t *testing.T) {
	t.Parallel()
	c := beginCookie(t)
	if e := c.event(); e>>flagsShift != primarySource || e&0xffff == 0 || !exists(e) {
		t.Fatalf("event %#x", e)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { done <- c.done(ctx, true) }()
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(20 * time.Millisecond): // nothing to wait for shows that nothing happens
	}
	countDown(t, c.event())
	if err := <-done; err != nil || exists(c.event()) {
		t.Errorf("%v; left behind: %t", err, exists(c.event()))
	}
}

// A udev that does not answer, or that never heard of the event, costs no more than the time that was given, and leaves no
// semaphore behind: there are only so many.
func TestCookie_givesUp(t *testing.T) {
	t.Parallel()
	c := beginCookie(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.done(ctx, true); !errors.Is(err, context.DeadlineExceeded) || exists(c.event()) {
		t.Errorf("%v; left behind: %t", err, exists(c.event()))
	}
	c = beginCookie(t)
	if err := c.done(t.Context(), false); err != nil || exists(c.event()) {
		t.Errorf("no event: %v; left behind: %t", err, exists(c.event()))
	}
}
