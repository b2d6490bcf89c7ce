package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// benchLockspace and benchResource are the names on the lease files.
const (
	benchLockspace = "BENCH"
	benchResource  = "bench-resource"
)

// leaseSizes are how many hosts the two resources take part: what a Holdfast domain's leases are made for, and the most
// that 512-byte sectors allow, which is sanlock's default.
var leaseSizes = []int{249, 2000}

// leaseTurns is how often the two take turns, so that what else the machine does hits both.
const leaseTurns = 4

// leases times acquire and release of a free lease: a keeper of ours through its client, and the sanlock daemon
// through its library, each with a file of its own on the same file system.
func (b *bench) leases(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	ours, stop, err := startBenchKeeper(ctx, filepath.Join(b.o.dir, "keeper"))
	if err != nil {
		return err
	}
	defer stop()
	theirs, err := startSanlock(ctx, filepath.Join(b.o.dir, "sanlock"))
	if errors.Is(err, errNoJudge) {
		b.report.leftOut("acquire and release by sanlock", err)
	} else if err != nil {
		return fmt.Errorf("starting the sanlock daemon: %w", err)
	} else {
		defer func() { err = errors.Join(err, theirs.stop()) }()
	}
	for i, hosts := range leaseSizes {
		if err := b.leasesOf(ctx, hosts, i, ours, theirs); err != nil {
			return err
		}
	}
	return nil
}

// leasesOf times one of the resources, taking turns.
func (b *bench) leasesOf(ctx context.Context, hosts, i int, ours *benchKeeper, theirs *sanlockPeer) error {
	var a, s samples
	for range leaseTurns {
		t, err := sample(b.o.count/leaseTurns, func() error { return ours.round(ctx, i) })
		if err != nil {
			return err
		}
		a = append(a, t...)
		if theirs == nil {
			continue
		}
		if t, err = theirs.rounds(ctx, theirs.resource(i), b.o.count/leaseTurns); err != nil {
			return err
		}
		s = append(s, t...)
	}
	b.report.compare(fmt.Sprintf("acquire and release a free lease, %d hosts", hosts), a, "sanlock client", s.median(), 1.0/2)
	return nil
}

// benchKeeper is a keeper with a lockspace and a resource of each size.
type benchKeeper struct {
	client *keeper.Client
	file   string
}

func startBenchKeeper(ctx context.Context, dir string) (*benchKeeper, func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("making the keeper's directory: %w", err)
	}
	k := &benchKeeper{file: filepath.Join(dir, "leases.img")}
	if err := initLeaseFile(ctx, k.file); err != nil {
		return nil, nil, err
	}
	var err error
	if k.client, err = keeper.Start(ctx, keeper.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}); err != nil {
		return nil, nil, err
	}
	stop := func() { _ = k.client.Close(ctx) }
	_, err = k.client.Join(ctx, keeper.LockspaceSpec{Name: benchLockspace, Device: k.file, Geometry: leases.Geometry512,
		HostID: 1, HostName: "bench", Profile: leases.Fast})
	if err != nil {
		stop()
		return nil, nil, err
	}
	return k, stop, nil
}

// round takes resource i and gives it back.
func (k *benchKeeper) round(ctx context.Context, i int) error {
	res := keeper.ResourceSpec{Lockspace: benchLockspace, Name: fmt.Sprint(benchResource, i), Device: k.file, Offset: leaseArea(1 + i)}
	if _, err := k.client.Acquire(ctx, res); err != nil {
		return err
	}
	return k.client.Release(ctx, res)
}

// leaseArea is the offset of a lease area.
func leaseArea(i int) int64 { return int64(i) * leases.Geometry512.AlignSize }

// initLeaseFile makes a file with a lockspace and a resource of each size behind it.
func initLeaseFile(ctx context.Context, file string) error {
	if _, err := makeLUN(file, 8<<20); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dev, err := blockdev.Open(ctx, file, blockdev.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	g := leases.Geometry512
	if err := leases.InitLockspace(ctx, dev, 0, g, benchLockspace, leases.Fast.IOTimeout); err != nil {
		return err
	}
	for i, hosts := range leaseSizes {
		if err := leases.InitResource(ctx, dev, leaseArea(1+i), g, benchLockspace, fmt.Sprint(benchResource, i), hosts); err != nil {
			return err
		}
	}
	return nil
}
