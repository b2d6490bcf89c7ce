package mailbox

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/mailbox/internal/plant"
)

// What VDSM's two sides read when nothing goes on: an SPM 250 pages each 2 s and a page each 0.5 s, a host a page each 2 s.
const (
	vdsmSPMIdle  = 250*pageSize/2.0 + pageSize/0.5
	vdsmHostIdle = pageSize / 2.0
)

// meter counts the bytes that go through a device.
type meter struct {
	blockdev.Device
	bytes atomic.Int64
}

func (m *meter) ReadAt(ctx context.Context, p []byte, off int64) error {
	m.bytes.Add(int64(len(p)))
	return m.Device.ReadAt(ctx, p, off)
}

func (m *meter) WriteAt(ctx context.Context, p []byte, off int64) error {
	m.bytes.Add(int64(len(p)))
	return m.Device.WriteAt(ctx, p, off)
}

// idleBytes measures in virtual time, where an hour costs nothing: they are the bytes in a second of a host and an SPM with nothing to do, in an hour of virtual time.
func idleBytes(t *testing.T) (host, spm float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, plant.Bugs{}, noEdit, extendFunc(func(context.Context, Request) error { return nil }))
		hi, ho, si, so := &meter{Device: p.inbox}, &meter{Device: p.outbox}, &meter{Device: p.inbox}, &meter{Device: p.outbox}
		p.host.cfg.Inbox, p.host.cfg.Outbox, p.server.cfg.Inbox = hi, ho, si
		p.server.outbox = blockdev.NewGuarded(so, p.guard)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = p.host.Run(ctx) })
		wg.Go(func() { _ = p.server.Run(ctx) })
		if err := p.host.Extend(ctx, Message{SizeMiB: 1}); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		hostBefore, spmBefore := hi.bytes.Load()+ho.bytes.Load(), si.bytes.Load()+so.bytes.Load()
		time.Sleep(time.Hour)
		host = float64(hi.bytes.Load()+ho.bytes.Load()-hostBefore) / 3600
		spm = float64(si.bytes.Load()+so.bytes.Load()-spmBefore) / 3600
		cancel()
		wg.Wait()
	})
	return host, spm
}

// TestIdle: the idle I/O of both sides stays well below VDSM's.
func TestIdle(t *testing.T) {
	t.Parallel()
	host, spm := idleBytes(t)
	t.Logf("host %.0f B/s (VDSM %.0f), SPM %.0f B/s (VDSM %.0f)", host, vdsmHostIdle, spm, vdsmSPMIdle)
	if host > vdsmHostIdle/4 || spm > vdsmSPMIdle/4 {
		t.Error("too much")
	}
}

// BenchmarkScan is the processor time of one look at all 250 pages when nothing is new.
func BenchmarkScan(b *testing.B) {
	mem := blockdev.NewMem(250*pageSize, 512)
	s, err := NewServer(ServerConfig{Inbox: mem, Outbox: mem, Guard: &simGuard{}, Handler: extendFunc(nil),
		Options: DefaultServerOptions(), Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(250 * pageSize)
	for b.Loop() {
		if err := s.scanAll(context.Background(), false); err != nil {
			b.Fatal(err)
		}
	}
}
