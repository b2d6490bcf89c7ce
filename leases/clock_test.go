package leases

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The boot clock runs on in suspend. A host that wakes after its lease was over submits nothing under it, not even a renewal or a
// release; one that wakes earlier goes on.
func TestClock_suspend(t *testing.T) {
	for name, c := range map[string]struct {
		asleep time.Duration
		lost   bool
	}{
		"longer than the lease":  {Fast.Expiry(), true},
		"for hours":              {5 * time.Hour, true},
		"within the margin":      {Fast.Expiry() - Fast.Margin()/2, true},
		"shorter than the lease": {Fast.Expiry() / 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				ls := b.join(1, "a", 2*Fast.IOTimeout)
				ended := make(chan error, 1)
				ctx := b.ctx(time.Hour)
				go func() { ended <- ls.Run(ctx) }()
				l, err := ls.Acquire(ctx, b.spec())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(Fast.RenewalPeriod() / 2)
				synctest.Wait()
				before := string(b.mem.Bytes(0, 2*mib))
				b.clock.Skew += c.asleep
				if err := l.Check(0); (err != nil) != c.lost {
					t.Fatalf("the first look after waking: %v", err)
				}
				if !c.lost {
					time.Sleep(3 * Fast.RenewalPeriod())
					if err := l.Check(time.Second); err != nil {
						t.Errorf("after a short sleep: %v", err)
					}
					return
				}
				if err := l.Release(ctx); !errors.Is(err, ErrLost) {
					t.Errorf("release: %v", err)
				}
				if _, err := ls.Acquire(ctx, b.spec()); !errors.Is(err, ErrLost) {
					t.Errorf("acquire: %v", err)
				}
				if c.asleep >= Fast.Expiry() {
					if err := <-ended; !errors.Is(err, ErrLost) {
						t.Errorf("the renewal: %v", err)
					}
					if string(b.mem.Bytes(0, 2*mib)) != before {
						t.Error("something was written under the old lease")
					}
				}
			})
		})
	}
}

// The wall clock may jump as it likes: nothing about a lease is measured with it. What is left of it bounds waits for the
// keeper's socket, its start and the end of processes.
func TestClock_noWallClock(t *testing.T) {
	t.Parallel()
	wall := regexp.MustCompile(`time\.(Now|Since|Until)\(`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(b), "\n") {
			if wall.MatchString(line) && !strings.HasPrefix(strings.TrimSpace(line), "//") {
				t.Errorf("%s reads the wall clock: %s", f, strings.TrimSpace(line))
			}
		}
	}
}
