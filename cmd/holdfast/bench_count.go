package main

import (
	"context"
	"sync"

	"github.com/holdfast-io/holdfast/blockdev"
)

// countingDevice counts what goes to a device. The rest of its methods are the device's own.
type countingDevice struct {
	blockdev.Device

	mu  sync.Mutex // guards sum
	sum ioCount
}

// add counts one call.
func (d *countingDevice) add(c ioCount) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.sum
	s.reads, s.writes, s.flushes = s.reads+c.reads, s.writes+c.writes, s.flushes+c.flushes
	s.readBytes, s.writeBytes = s.readBytes+c.readBytes, s.writeBytes+c.writeBytes
}

// taken is what was counted since the last time, for n operations.
func (d *countingDevice) taken(n int) ioCount {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.sum.per(n)
	d.sum = ioCount{}
	return c
}

// ReadAt implements blockdev.Device.
func (d *countingDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	d.add(ioCount{reads: 1, readBytes: float64(len(p))})
	return d.Device.ReadAt(ctx, p, off)
}

// WriteAt implements blockdev.Device.
func (d *countingDevice) WriteAt(ctx context.Context, p []byte, off int64) error {
	d.add(ioCount{writes: 1, writeBytes: float64(len(p))})
	return d.Device.WriteAt(ctx, p, off)
}

// Flush implements blockdev.Device.
func (d *countingDevice) Flush(ctx context.Context) error {
	d.add(ioCount{flushes: 1})
	return d.Device.Flush(ctx)
}
