package leases

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// two joins hosts 1 and 2 and lets them see each other alive.
func (b *bubble) two() (one, two *Lockspace) {
	b.t.Helper()
	one, two = b.join(1, "a", 2*Fast.IOTimeout), b.join(2, "b", 2*Fast.IOTimeout)
	b.run(one)
	b.run(two)
	time.Sleep(3 * Fast.RenewalPeriod())
	synctest.Wait()
	return one, two
}

func (b *bubble) exclusive(ls *Lockspace) *Lease {
	b.t.Helper()
	l, err := ls.Acquire(b.ctx(time.Minute), b.spec())
	if err != nil {
		b.t.Fatalf("host %d: %v", ls.HostID(), err)
	}
	return l
}

func (b *bubble) shared(ls *Lockspace) *SharedLease {
	b.t.Helper()
	s, err := ls.AcquireShared(b.ctx(time.Minute), b.spec())
	if err != nil {
		b.t.Fatalf("host %d: %v", ls.HostID(), err)
	}
	return s
}

// block is host h's block on disk.
func (b *bubble) block(h int) DBlock {
	var d DBlock
	_ = d.Decode(b.mem.Bytes(mib+Geometry512.sector(h+1), 512))
	return d
}

func (b *bubble) leader() Leader {
	var l Leader
	_ = l.Decode(b.mem.Bytes(mib, 512))
	return l
}

func (b *bubble) state(ls *Lockspace) ResourceInfo {
	b.t.Helper()
	info, err := ls.ReadResource(b.ctx(time.Minute), b.spec())
	if err != nil {
		b.t.Fatal(err)
	}
	return info
}

// wantShared checks that host h's block says shared and nothing is left of a ballot.
func (b *bubble) wantShared(h int) {
	b.t.Helper()
	d := b.block(h)
	if !d.Shared() || !d.Released() || !d.Valid() || d.ModeGeneration == 0 {
		b.t.Errorf("block of host %d: %+v", h, d)
	}
	sector := b.mem.Bytes(mib+Geometry512.sector(h+1), 512)
	clean := make([]byte, 512)
	d.Encode(clean)
	if string(clean) != string(sector) {
		b.t.Errorf("block of host %d has something between its parts", h)
	}
	if l := b.leader(); l.Timestamp != 0 {
		b.t.Errorf("leader still names host %d at %d", l.OwnerID, l.Timestamp)
	}
}

// TestShare_matrix: what host 1 holds against what host 2 wants.
func TestShare_matrix(t *testing.T) {
	hold := map[string]func(*bubble, *Lockspace){
		"exclusive":             func(b *bubble, ls *Lockspace) { b.exclusive(ls) },
		"shared":                func(b *bubble, ls *Lockspace) { b.shared(ls) },
		"shared, was exclusive": func(b *bubble, ls *Lockspace) { b.convert(b.exclusive(ls)) },
		"exclusive, was shared": func(b *bubble, ls *Lockspace) { b.upgrade(b.shared(ls)) },
		"nothing, was shared":   func(b *bubble, ls *Lockspace) { b.give(b.shared(ls).Release) },
		"nothing":               func(b *bubble, ls *Lockspace) { b.give(b.exclusive(ls).Release) },
	}
	for _, c := range []struct {
		held                      string
		exclusive, shared, byUpgr bool
	}{
		{"exclusive", false, false, false},
		{"shared", false, true, false},
		{"shared, was exclusive", false, true, false},
		{"exclusive, was shared", false, false, false},
		{"nothing, was shared", true, true, true},
		{"nothing", true, true, true},
	} {
		t.Run(c.held, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				one, two := b.two()
				hold[c.held](b, one)
				before := b.state(two).Version
				if l, err := two.Acquire(b.ctx(time.Minute), b.spec()); (err == nil) != c.exclusive {
					t.Errorf("exclusive: %v", err)
				} else if err != nil && (!errors.Is(err, ErrHeld) || b.state(two).Version != before) {
					t.Errorf("exclusive: %v, version %d", err, b.state(two).Version)
				} else if err == nil {
					b.give(l.Release)
				}
				s, err := two.AcquireShared(b.ctx(time.Minute), b.spec())
				if (err == nil) != c.shared {
					t.Fatalf("shared: %v", err)
				}
				if err != nil {
					return
				}
				b.wantShared(2)
				l, err := s.ToExclusive(b.ctx(time.Minute))
				if (err == nil) != c.byUpgr {
					t.Errorf("converted: %v", err)
				}
				if err == nil && (s.Check(0) == nil || l.Check(0) != nil) {
					t.Errorf("after converting: shared %v, exclusive %v", s.Check(0), l.Check(0))
				}
				if err != nil {
					b.wantShared(2)
					b.wantShared(1)
					if s.Check(0) != nil {
						t.Errorf("after a refused conversion: %v", s.Check(0))
					}
				}
			})
		})
	}
}

func (b *bubble) convert(l *Lease) *SharedLease {
	b.t.Helper()
	s, err := l.ToShared(b.ctx(time.Minute))
	if err != nil {
		b.t.Fatal(err)
	}
	if l.Check(0) == nil || s.Check(0) != nil || s.Epoch() != l.Epoch() {
		b.t.Errorf("after converting: exclusive %v, shared %v, %d and %d", l.Check(0), s.Check(0), l.Epoch(), s.Epoch())
	}
	b.wantShared(l.r.ls.HostID())
	return s
}

func (b *bubble) upgrade(s *SharedLease) *Lease {
	b.t.Helper()
	l, err := s.ToExclusive(b.ctx(time.Minute))
	if err != nil {
		b.t.Fatal(err)
	}
	if d := b.block(s.r.ls.HostID()); d.Shared() {
		b.t.Errorf("exclusive, but the block says shared: %+v", d)
	}
	return l
}

func (b *bubble) give(release func(context.Context) error) {
	b.t.Helper()
	if err := release(b.ctx(time.Minute)); err != nil {
		b.t.Fatal(err)
	}
}

// insist tries once a second for as long as another host has the resource, and longer than any host is dead after.
func (b *bubble) insist(take func() error) error {
	err := take()
	for end := time.Now().Add(10 * Fast.HostDead()); errors.Is(err, ErrHeld) && time.Now().Before(end); err = take() {
		time.Sleep(time.Second)
	}
	return err
}

// TestShare_deadSharer: a dead host's shared lease keeps others out for 8N + W and not longer, and is wiped then; it is
// wiped at once when the host left or came back.
func TestShare_deadSharer(t *testing.T) {
	for name, c := range map[string]struct {
		gone func(b *bubble, one *Lockspace)
		wait bool
	}{
		"silent":    {func(*bubble, *Lockspace) {}, true},
		"came back": {func(b *bubble, _ *Lockspace) { b.run(b.join(1, "a", 2*Fast.IOTimeout)) }, false},
		"freed": {func(b *bubble, _ *Lockspace) {
			rec := b.mem.Bytes(0, 512)
			var l Leader
			_ = l.Decode(rec)
			l.Timestamp = 0
			l.Encode(rec)
			b.mem.SetBytes(0, rec)
		}, false},
	} {
		for _, how := range []string{"acquire", "convert"} {
			t.Run(name+", "+how, func(t *testing.T) {
				inBubble(t, func(t *testing.T, b *bubble) {
					one := b.join(1, "a", 2*Fast.IOTimeout)
					stop := b.run(one)
					two := b.join(2, "b", 2*Fast.IOTimeout)
					b.run(two)
					time.Sleep(3 * Fast.RenewalPeriod())
					b.shared(one)
					take := func() error { _, err := two.Acquire(b.ctx(time.Minute), b.spec()); return err }
					if how == "convert" {
						s := b.shared(two)
						take = func() error { _, err := s.ToExclusive(b.ctx(time.Minute)); return err }
					}
					stop()
					last := one.lastRenewal()
					c.gone(b, one)
					err := b.insist(take)
					silent := b.clock.Boot() - last
					if d := b.block(1); err != nil || d.Shared() {
						t.Errorf("%v, block %+v", err, d)
					}
					if c.wait && (silent <= Fast.HostDead() || silent > Fast.HostDead()+Fast.RenewalPeriod()+2*time.Second) {
						t.Errorf("taken after %v", silent)
					}
					if !c.wait && silent > 2*Fast.RenewalPeriod() {
						t.Errorf("waited %v for a host that is gone", silent)
					}
				})
			})
		}
	}
}

// hookDevice calls before each write.
type hookDevice struct {
	blockdev.Device
	before func(off int64)
}

func (h *hookDevice) WriteAt(ctx context.Context, p []byte, off int64) error {
	if h.before != nil {
		h.before(off)
	}
	return h.Device.WriteAt(ctx, p, off)
}

// TestToExclusive_refusedLate: a sharer that comes up during the ballot ends the conversion when the lease is already
// ours; our block must then say shared and released again, and the leader be free.
func TestToExclusive_refusedLate(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		h := &hookDevice{Device: b.mem}
		spec := b.spec()
		spec.Device = h
		s, err := one.AcquireShared(b.ctx(time.Minute), spec)
		if err != nil {
			t.Fatal(err)
		}
		h.before = func(int64) {
			d := DBlock{Mbal: 2, Lver: 1, Flags: flagReleased, ModeFlags: flagShared, ModeGeneration: two.Generation()}
			sector := make([]byte, 512)
			d.Encode(sector)
			b.mem.SetBytes(mib+Geometry512.sector(3), sector)
			if got := b.block(1); !got.Shared() {
				t.Errorf("in the middle of a conversion our block does not say shared: %+v", got)
			}
		}
		_, err = s.ToExclusive(b.ctx(time.Minute))
		var held *HeldError
		if !errors.As(err, &held) || !held.Shared || held.HostID != 2 {
			t.Errorf("got %v", err)
		}
		if s.Check(0) != nil || b.leader().Lver != 2 {
			t.Errorf("%v, version %d", s.Check(0), b.leader().Lver)
		}
		b.wantShared(1)
		b.give(s.Release)
		if d := b.block(1); d.Shared() {
			t.Error("released, but the block says shared")
		}
	})
}

// TestAcquireShared_shortHold: another host that is just entering makes us try again, one that stays makes us fail.
func TestAcquireShared_shortHold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		l := b.exclusive(one)
		rec := b.leader()
		rec.Flags |= flagShortHold
		sector := b.mem.Bytes(mib, 512)
		rec.Encode(sector)
		b.mem.SetBytes(mib, sector)
		l.r.leader = rec
		if info := b.state(two); info.State != ResourceExclusive || !info.ShortHold {
			t.Errorf("%+v", info)
		}
		begin := time.Now()
		if _, err := two.AcquireShared(b.ctx(time.Minute), b.spec()); !errors.Is(err, ErrHeld) || time.Since(begin) < 500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if d := b.block(2); d != (DBlock{ZeroValue: true}) {
			t.Errorf("a refused shared acquire wrote %+v", d)
		}
		done := make(chan error)
		go func() {
			_, err := two.AcquireShared(b.ctx(time.Minute), b.spec())
			done <- err
		}()
		time.Sleep(100 * time.Millisecond)
		b.convert(l)
		if err := <-done; err != nil {
			t.Errorf("after the short hold: %v", err)
		}
		b.wantShared(2)
	})
}

// TestShare_many: all hosts become sharers at the same moment, and all of them can.
func TestShare_many(t *testing.T) {
	for i := range 20 { // who meets whom when differs
		t.Run(fmt.Sprint(i), shareMany)
	}
}

func shareMany(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		const hosts = 5
		var all []*Lockspace
		for id := 1; id <= hosts; id++ {
			all = append(all, b.join(id, string(rune('a'+id)), 2*Fast.IOTimeout))
			b.run(all[id-1])
		}
		errs := make(chan error)
		for _, ls := range all {
			go func() {
				_, err := ls.AcquireShared(b.ctx(time.Minute), b.spec())
				errs <- err
			}()
		}
		for range hosts {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		info := b.state(all[0])
		if info.State != ResourceShared || len(info.Sharers) != hosts || info.Takeable {
			t.Errorf("%+v", info)
		}
	})
}

// TestToExclusive_refusedEarly: another host wins the version while our ballot is in its first phase. Nobody can have
// committed us then, but the block must still say that our ballot is over.
func TestToExclusive_refusedEarly(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		h := &hookDevice{Device: b.mem}
		spec := b.spec()
		spec.Device = h
		s := b.sharedAt(one, spec)
		h.before = func(int64) {
			h.before = nil
			l := b.leader()
			l.Lver, l.OwnerID, l.OwnerGeneration, l.Timestamp, l.WriteID = 2, 2, two.Generation(), 5, 2
			sector := make([]byte, 512)
			l.Encode(sector)
			b.mem.SetBytes(mib, sector)
		}
		if _, err := s.ToExclusive(b.ctx(time.Minute)); !errors.Is(err, ErrHeld) {
			t.Errorf("got %v", err)
		}
		if d := b.block(1); !d.Shared() || !d.Released() || s.Check(0) != nil {
			t.Errorf("%+v, %v", d, s.Check(0))
		}
		if l := b.leader(); l.OwnerID != 2 || l.Timestamp != 5 {
			t.Errorf("the winner's leader was touched: %+v", l)
		}
	})
}

// cacheDevice knows which sectors a crash of the storage could forget.
type cacheDevice struct {
	blockdev.Device
	t        *testing.T
	volatile map[int64]bool
	leaders  int // leader writes seen
}

func (c *cacheDevice) WriteAt(ctx context.Context, p []byte, off int64) error {
	if off == mib {
		c.leaders++
		if c.volatile[mib+Geometry512.sector(2)] {
			c.t.Error("the leader is written while our block is not durable")
		}
	}
	c.volatile[off] = true
	return c.Device.WriteAt(ctx, p, off)
}

func (c *cacheDevice) Flush(ctx context.Context) error {
	clear(c.volatile)
	return c.Device.Flush(ctx)
}

// TestShare_durable: our block says SHARED durably before the leader is freed. Otherwise a crash of the storage could
// forget that we share, and another host would have the resource for itself.
func TestShare_durable(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one := b.join(1, "a", 2*Fast.IOTimeout)
		c := &cacheDevice{Device: b.mem, t: t, volatile: map[int64]bool{}}
		spec := b.spec()
		spec.Device = c
		l, err := b.sharedAt(one, spec).ToExclusive(b.ctx(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		b.give(b.convert(l).Release)
		if c.leaders != 4 || len(c.volatile) != 0 {
			t.Errorf("%d leader writes, not durable: %v", c.leaders, c.volatile)
		}
	})
}

// TestShare_mixedTimeouts: a silent sharer is dead by the larger of its N and ours.
func TestShare_mixedTimeouts(t *testing.T) {
	for name, n := range map[string]time.Duration{"larger": 5 * time.Second, "smaller": time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				cfg := b.config(1, "a")
				cfg.Profile.IOTimeout = n
				one, err := Join(b.ctx(time.Minute), cfg)
				if err != nil {
					t.Fatal(err)
				}
				two := b.join(2, "b", 2*Fast.IOTimeout)
				b.run(two)
				b.shared(one)
				last := one.lastRenewal()
				err = b.insist(func() error { _, err := two.Acquire(b.ctx(time.Hour), b.spec()); return err })
				dead := 8*max(n, Fast.IOTimeout) + Fast.Watchdog
				if silent := b.clock.Boot() - last; err != nil || silent <= dead || silent > dead+Fast.RenewalPeriod()+5*time.Second {
					t.Errorf("%v after %v, dead is %v", err, silent, dead)
				}
			})
		})
	}
}

// TestIOCounts_shared fixes what sharing and converting may cost: sanlock's writes, in its order, and fewer bytes read.
func TestIOCounts_shared(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		ls := b.join(1, "a", 2*Fast.IOTimeout)
		c := &countingDevice{Device: b.mem}
		spec := b.spec()
		spec.Device = c
		b.give(b.sharedAt(ls, spec).Release) // now the number of hosts is known
		want := func(what string, reads, writes, readBytes int) {
			t.Helper()
			if c.reads != reads || c.writes != writes || c.readBytes != readBytes {
				t.Errorf("%s: %d reads of %d bytes, %d writes", what, c.reads, c.readBytes, c.writes)
			}
			*c = countingDevice{Device: b.mem}
		}
		*c = countingDevice{Device: b.mem}
		s := b.sharedAt(ls, spec)
		want("acquire shared", 4, 5, 3*5120+512)
		l := b.upgrade(s)
		want("to exclusive", 3, 4, 3*5120)
		s = b.convert(l)
		want("to shared", 1, 2, 512)
		b.give(s.Release)
		want("release shared", 0, 1, 0)
	})
}
