// Package testutil has what the tests of many packages need: real tools, ports, loop devices, deadlines, retries.
//
// It imports no Holdfast package and is used by tests only.
package testutil

import (
	"context"
	"os"
	"testing"
	"time"
)

// DefaultDeadline is the time Deadline gives a test, unless the test binary's own deadline is earlier.
const DefaultDeadline = time.Minute

// Deadline returns a context that ends with the test, and after DefaultDeadline at the latest.
func Deadline(t testing.TB) context.Context {
	t.Helper()
	end := time.Now().Add(DefaultDeadline)
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		// A second is left for the test to say what went wrong before the binary is stopped.
		if own, ok := d.Deadline(); ok && own.Add(-time.Second).Before(end) {
			end = own.Add(-time.Second)
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), end)
	t.Cleanup(cancel)
	return ctx
}

// Retry calls f until it returns nil and fails the test with its last error after timeout. Inside a synctest bubble
// the waits cost no real time.
func Retry(t testing.TB, timeout time.Duration, f func() error) {
	t.Helper()
	end := time.Now().Add(timeout)
	wait := time.Millisecond
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still failing after %v: %v", timeout, err)
		}
		time.Sleep(wait)
		wait = min(wait*2, 100*time.Millisecond)
	}
}

// NeedRoot skips the test for ordinary users. In CI (CI=true) it fails instead.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root")
	}
}

// missing skips the test with a reason, or fails it where everything must run.
func missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s (and CI=true, where nothing may be left out)", reason)
	}
	t.Skip(reason)
}

// Seeds is how many seeds of a simulation to run: all, a quarter with the race detector, few with -short.
func Seeds(all int) int {
	switch {
	case testing.Short():
		return min(all, 5)
	case Race:
		return max(all/4, 5)
	}
	return all
}
