package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// cutOff times from pulling the SPM's cable to another SPM: the role travels through the LUN. The hosts are in network
// namespaces of their own, with the times of the fast profile and no power switch.
func (b *bench) cutOff(ctx context.Context) error {
	dir := filepath.Join(b.o.dir, "cut")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p, err := newNetPool(ctx, dir, "fast", 3, false)
	if errors.Is(err, errNoNetwork) {
		b.report.rows = append(b.report.rows, benchRow{what: "the SPM's network cut to the next SPM", value: err.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	for _, m := range []struct {
		what    string
		leading bool
		goal    time.Duration
	}{
		{"the SPM's network cut to the next SPM", false, 2 * time.Second},
		{"the same when it led as well, an election first", true, 3 * time.Second},
	} {
		var all samples
		for range b.o.runs {
			took, _, err := p.handOver(ctx, m.leading)
			if err != nil {
				return err
			}
			all = append(all, took)
		}
		b.report.times(m.what, all, m.goal)
	}
	return nil
}
