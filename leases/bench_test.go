package leases

import (
	"context"
	"testing"
	"time"
)

// BenchmarkAcquireRelease is a free lease taken and given back, on a file, without a keeper's socket in between.
func BenchmarkAcquireRelease(b *testing.B) {
	for _, hosts := range []int{8, 250, 2000} {
		b.Run(map[int]string{8: "hosts=8", 250: "hosts=250", 2000: "hosts=2000"}[hosts], func(b *testing.B) {
			benchAcquire(b, hosts, func(ctx context.Context, ls *Lockspace, spec ResourceSpec) error {
				l, err := ls.Acquire(ctx, spec)
				if err != nil {
					return err
				}
				return l.Release(ctx)
			})
		})
	}
}

// BenchmarkShare is a shared lease taken and given back, and one converted there and back.
func BenchmarkShare(b *testing.B) {
	b.Run("acquire and release", func(b *testing.B) {
		benchAcquire(b, 250, func(ctx context.Context, ls *Lockspace, spec ResourceSpec) error {
			s, err := ls.AcquireShared(ctx, spec)
			if err != nil {
				return err
			}
			return s.Release(ctx)
		})
	})
	b.Run("convert there and back", func(b *testing.B) {
		var s *SharedLease
		benchAcquire(b, 250, func(ctx context.Context, ls *Lockspace, spec ResourceSpec) (err error) {
			if s == nil || s.Check(0) != nil {
				if s, err = ls.AcquireShared(ctx, spec); err != nil {
					return err
				}
			}
			l, err := s.ToExclusive(ctx)
			if err != nil {
				return err
			}
			s, err = l.ToShared(ctx)
			return err
		})
	})
}

func benchAcquire(b *testing.B, hosts int, do func(ctx context.Context, ls *Lockspace, spec ResourceSpec) error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dev, _ := openFile(b, 4*mib, 512)
	if err := InitLockspace(ctx, dev, 0, Geometry512, "bench", time.Second); err != nil {
		b.Fatal(err)
	}
	if err := InitResource(ctx, dev, mib, Geometry512, "bench", "res", hosts); err != nil {
		b.Fatal(err)
	}
	ls, err := Join(ctx, LockspaceConfig{Device: dev, Name: "bench", HostID: 1, HostName: "bench", Profile: Profile{IOTimeout: time.Second, Watchdog: time.Minute}, Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- ls.Run(run) }()
	defer func() { stop(); <-done }()
	spec := ResourceSpec{Name: "res", Device: dev, Offset: mib}
	b.ReportAllocs()
	for b.Loop() {
		if err := do(ctx, ls, spec); err != nil {
			b.Fatal(err)
		}
	}
}
