package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

const (
	// benchVMLeases is how many leases are listed, which is more than a volume of the usual size has room for.
	benchVMLeases = 2000
	// benchHolder and benchHighest are host ids that no host of the pool has: one that holds half of the leases, and
	// the highest that a pool can give out, with which all blocks of each lease must be read.
	benchHolder, benchHighest = 9, 250
)

// vmLeases times the listing of many leases with who has them, asked of a host that is not the SPM.
func (b *bench) vmLeases(ctx context.Context) error {
	if b.pool == nil {
		if err := b.start(ctx); err != nil {
			return err
		}
	}
	f := b.pool.file()
	if _, err := b.pool.stop(); err != nil {
		return err
	}
	b.pool = nil
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	dev, err := blockdev.Open(ctx, f.LUN, blockdev.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	v := &vmLeaseBench{dev: dev, domain: f.Domain}
	if err := v.fill(ctx); err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	return v.measure(ctx, b)
}

// vmLeaseBench is the domain of the pool as this program uses it beside the pool.
type vmLeaseBench struct {
	dev    blockdev.Device
	domain string
	group  *lvm2.Group
}

// fill makes the volume large enough and the leases, while the pool is down.
func (v *vmLeaseBench) fill(ctx context.Context) (err error) {
	if v.group, err = lvm2.OpenWith(ctx, []blockdev.Device{v.dev}, lvm2.Options{}); err != nil {
		return err
	}
	tx := v.group.Begin()
	if _, err := tx.ExtendLV("xleases", (benchVMLeases+128)<<20); err != nil {
		return err
	}
	cctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := v.group.Commit(cctx, tx, nil, "bench: more room for leases"); err != nil {
		return err
	}
	vol, err := v.volume()
	if err != nil {
		return err
	}
	for range benchVMLeases {
		if _, _, err := vol.Add(ctx, uuid.NewString()); err != nil {
			return err
		}
	}
	return nil
}

func (v *vmLeaseBench) volume() (*xlease.Volume, error) {
	lv, err := v.group.Device("xleases")
	if err != nil {
		return nil, err
	}
	return xlease.New(xlease.Config{Device: lv, Lockspace: v.domain, Geometry: leases.Geometry512, NumHosts: 250})
}

// measure lists with half of the leases held by a host with a low id, and then with the highest host id joined.
func (v *vmLeaseBench) measure(ctx context.Context, b *bench) error {
	holder, stop, err := v.join(ctx, benchHolder)
	if err != nil {
		return err
	}
	defer stop()
	if err := v.hold(ctx, holder, benchVMLeases/2); err != nil {
		return err
	}
	what := fmt.Sprintf("list %d VM leases with status", benchVMLeases)
	if err := v.list(ctx, b, what); err != nil {
		return err
	}
	high, stopHigh, err := v.join(ctx, benchHighest)
	if err != nil {
		return err
	}
	defer stopHigh()
	if err := v.list(ctx, b, fmt.Sprintf("the same with host id %d joined", benchHighest)); err != nil {
		return err
	}
	return high.Leave(ctx)
}

// join takes a host id beside the pool's hosts and keeps it.
func (v *vmLeaseBench) join(ctx context.Context, id int) (*leases.Lockspace, func(), error) {
	dev, off, err := v.group.Locate("ids", 0)
	if err != nil {
		return nil, nil, err
	}
	ls, err := leases.Join(ctx, leases.LockspaceConfig{Device: dev, Offset: off, Geometry: leases.Geometry512, Name: v.domain, HostID: id,
		HostName: fmt.Sprintf("bench-%d", id), Profile: leases.Dev, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	rctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = ls.Run(rctx) }() // a loss shows in what comes next
	return ls, func() { cancel(); <-done }, nil
}

// hold takes the first n leases.
func (v *vmLeaseBench) hold(ctx context.Context, ls *leases.Lockspace, n int) error {
	vol, err := v.volume()
	if err != nil {
		return err
	}
	x, err := vol.Load(ctx)
	if err != nil {
		return err
	}
	lv, err := v.group.Device("xleases")
	if err != nil {
		return err
	}
	for _, r := range x.Records()[:n] {
		if _, err := ls.Acquire(ctx, leases.ResourceSpec{Name: r.ID, Device: lv, Offset: r.Offset}); err != nil {
			return err
		}
	}
	return nil
}

// list times the call and looks whether the answer is right.
func (v *vmLeaseBench) list(ctx context.Context, b *bench, what string) error {
	spm, err := b.pool.spm(ctx)
	if err != nil {
		return err
	}
	host, wrong := b.pool.other(spm.Host), error(nil)
	t, err := sample(max(5, b.o.count/10), func() error {
		l, err := b.pool.client(host).Leases(ctx, v.domain)
		held := 0
		for i := range l {
			if l[i].Status == api.LeaseExclusive && l[i].HostID == benchHolder {
				held++
			}
		}
		if err == nil && (len(l) != benchVMLeases || held != benchVMLeases/2) {
			wrong = fmt.Errorf("%d leases are listed, %d of them held", len(l), held)
		}
		return err
	})
	b.report.times(what, t, time.Second)
	return errors.Join(err, wrong)
}
