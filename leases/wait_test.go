package leases

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// bubble is a lockspace with one resource in virtual time.
type bubble struct {
	t     *testing.T
	mem   *blockdev.Mem
	clock *clock.Virtual
	bugs  plant.Bugs
}

func inBubble(t *testing.T, f func(t *testing.T, b *bubble)) {
	t.Helper()
	t.Parallel()
	inSerialBubble(t, f)
}

// inSerialBubble is inBubble for a test that must be over when it returns.
func inSerialBubble(t *testing.T, f func(t *testing.T, b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, mem: blockdev.NewMem(2*mib, 512), clock: &clock.Virtual{Start: time.Now().Add(-time.Hour)}}
		ctx := b.ctx(time.Hour)
		if err := InitLockspace(ctx, b.mem, 0, Geometry512, "ls", Fast.IOTimeout); err != nil {
			t.Fatal(err)
		}
		if err := InitResource(ctx, b.mem, mib, Geometry512, "ls", "res", 8); err != nil {
			t.Fatal(err)
		}
		f(t, b)
	})
}

func (b *bubble) ctx(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bubble) config(id int, name string) LockspaceConfig {
	return LockspaceConfig{Device: b.mem, Name: "ls", HostID: id, HostName: name, Profile: Fast, Clock: b.clock, Log: quiet(), Bugs: b.bugs}
}

// join joins and fails the test if that takes another time than expected.
func (b *bubble) join(id int, name string, want time.Duration) *Lockspace {
	b.t.Helper()
	begin := time.Now()
	ls, err := Join(b.ctx(time.Hour), b.config(id, name))
	if err != nil {
		b.t.Fatal(err)
	}
	if took := time.Since(begin); took != want {
		b.t.Errorf("join took %v, want %v", took, want)
	}
	return ls
}

// run renews until the test ends or stop is called.
func (b *bubble) run(ls *Lockspace) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = ls.Run(ctx) }()
	stop = func() { cancel(); <-done }
	b.t.Cleanup(stop)
	return stop
}

func (b *bubble) spec() ResourceSpec { return ResourceSpec{Name: "res", Device: b.mem, Offset: mib} }

func TestJoin_waits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		n := Fast.IOTimeout
		first := b.join(1, "a", 2*n)
		if first.Generation() != 1 {
			t.Errorf("generation %d", first.Generation())
		}
		if ls := b.join(1, "a", 2*n); ls.Generation() != 2 { // own former record
			t.Errorf("generation %d", ls.Generation())
		}
		if ls := b.join(1, "b", surely(Fast.HostDead())+2*n); ls.Generation() != 3 { // another's, silent
			t.Errorf("generation %d", ls.Generation())
		} else if err := ls.Leave(b.ctx(time.Second)); err != nil {
			t.Error(err)
		}
		b.join(1, "c", 2*n) // another's, left
	})
}

func TestJoin_busy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.run(b.join(1, "a", 2*Fast.IOTimeout))
		begin := time.Now()
		_, err := Join(b.ctx(time.Hour), b.config(1, "b"))
		if !errors.Is(err, ErrHostIDBusy) || time.Since(begin) != surely(Fast.HostDead()) {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if _, err := Join(b.ctx(time.Second), b.config(1, "")); err == nil {
			t.Error("joined without a name")
		}
	})
}

// TestJoin_race: two hosts take the same free id; the re-read lets one through.
func TestJoin_race(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		errs := make(chan error, 2)
		for i, name := range []string{"a", "b"} {
			go func() {
				_ = pause(b.ctx(time.Minute), time.Duration(i)*time.Second)
				_, err := Join(b.ctx(time.Hour), b.config(1, name))
				errs <- err
			}()
		}
		one, two := <-errs, <-errs
		if (one == nil) == (two == nil) || !errors.Is(errors.Join(one, two), ErrHostIDBusy) {
			t.Errorf("%v, %v", one, two)
		}
	})
}

// TestHostStates is the time line of a host that falls silent.
func TestHostStates(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		stop := b.run(b.join(2, "b", 2*Fast.IOTimeout))
		watcher := b.join(1, "a", 2*Fast.IOTimeout)
		b.run(watcher)
		state := func(after time.Duration, want HostState) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := watcher.HostStatus(2).State; got != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
		state(0, HostUnknown)
		state(Fast.RenewalPeriod()*2, HostLive)
		stop()
		time.Sleep(Fast.RenewalPeriod())
		state(Fast.Expiry()-Fast.RenewalPeriod(), HostLive)
		state(Fast.RenewalPeriod()+time.Second, HostFail)
		state(Fast.Watchdog, HostDead)
		if watcher.HostStatus(1).State != HostLive || watcher.HostStatus(3).State != HostFree {
			t.Errorf("%+v", watcher.Hosts())
		}
	})
}

// TestAcquire_deadOwner: not before 8N + W of silence, and soon after.
func TestAcquire_deadOwner(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		dead := b.join(2, "b", 2*Fast.IOTimeout)
		stop := b.run(dead)
		ls := b.join(1, "a", 2*Fast.IOTimeout)
		b.run(ls)
		if _, err := dead.Acquire(b.ctx(time.Minute), b.spec()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * Fast.RenewalPeriod())
		_, err := ls.Acquire(b.ctx(time.Minute), b.spec())
		var held *HeldError
		if !errors.As(err, &held) || held.HostID != 2 || held.State != HostLive || held.HostName != "b" {
			t.Errorf("owner alive: %v", err)
		}
		stop()
		last := dead.lastRenewal()
		time.Sleep(2 * Fast.RenewalPeriod())
		l, err := ls.Acquire(b.ctx(time.Hour), b.spec())
		silent := b.clock.Boot() - last
		if err != nil || l.Epoch() != 2 || silent <= Fast.HostDead() || silent > Fast.HostDead()+Fast.RenewalPeriod()+2*time.Second {
			t.Errorf("%v after %v", err, silent)
		}
	})
}

// TestAcquire_ownerGone: freed by proof, left, or come back with a new generation: no wait.
func TestAcquire_ownerGone(t *testing.T) {
	for name, gone := range map[string]func(b *bubble, ls, dead *Lockspace){
		"freed": func(b *bubble, ls, _ *Lockspace) {
			if err := ls.FreeHost(b.ctx(time.Minute), 2, 9); !errors.Is(err, ErrChanged) {
				b.t.Errorf("freeing the wrong generation: %v", err)
			}
			if err := ls.FreeHost(b.ctx(time.Minute), 2, 1); err != nil {
				b.t.Error(err)
			}
		},
		"came back": func(b *bubble, _, _ *Lockspace) { b.join(2, "b", 2*Fast.IOTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				dead := b.join(2, "b", 2*Fast.IOTimeout)
				ls := b.join(1, "a", 2*Fast.IOTimeout)
				b.run(ls)
				if _, err := dead.Acquire(b.ctx(time.Minute), b.spec()); err != nil {
					t.Fatal(err)
				}
				nowait := b.spec()
				nowait.NoWait = true
				if _, err := ls.Acquire(b.ctx(time.Minute), nowait); !errors.Is(err, ErrHeld) {
					t.Errorf("held: %v", err)
				}
				gone(b, ls, dead)
				begin := time.Now()
				if l, err := ls.Acquire(b.ctx(time.Minute), b.spec()); err != nil || l.Epoch() != 2 || time.Since(begin) != 0 {
					t.Errorf("%v after %v", err, time.Since(begin))
				}
			})
		})
	}
}

// TestRelease_committedByOther: a leader that another host wrote is left alone, and the released flag makes it free.
func TestRelease_committedByOther(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		ours, other := b.join(1, "a", 2*Fast.IOTimeout), b.join(2, "b", 2*Fast.IOTimeout)
		b.run(ours)
		b.run(other)
		l, err := ours.Acquire(b.ctx(time.Minute), b.spec())
		if err != nil {
			t.Fatal(err)
		}
		b.committedBy(2)
		if err := l.Release(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		info, err := other.ReadResource(b.ctx(time.Minute), b.spec())
		if err != nil || info.State != ResourceFree || info.Timestamp == 0 {
			t.Errorf("%+v, %v", info, err)
		}
		time.Sleep(3 * Fast.RenewalPeriod()) // the owner is seen to be alive
		if l, err := other.Acquire(b.ctx(time.Minute), b.spec()); err != nil || l.Epoch() != 2 {
			t.Errorf("%v", err)
		}
	})
}

// TestAcquire_ownerGoesOn: an owner that released under another host's commit and began a ballot for the next version, which
// wipes its released flag, does not hold the old one. Nobody would ever get the resource if that ballot came to nothing.
func TestAcquire_ownerGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		l := b.exclusive(one)
		b.committedBy(2)
		if err := l.Release(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		b.setBlock(1, DBlock{Mbal: 8001, Lver: 2})
		if j := b.agree(two); j.State != ResourceFree || j.Version != 1 {
			t.Errorf("%+v", j)
		}
		if l, err := two.Acquire(b.ctx(time.Minute), b.spec()); err != nil || l.Epoch() != 2 {
			t.Errorf("%v", err)
		}
	})
}

// TestReadResource_oldRelease: the owner's block is read before it took part in this version, the leader after.
func TestReadResource_oldRelease(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		if err := b.exclusive(one).Release(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		before := b.block(1)
		b.exclusive(one)
		b.committedBy(2)
		b.setBlock(1, before)
		if j := b.agree(two); j.State != ResourceExclusive || j.Version != 2 {
			t.Errorf("%+v", j)
		}
	})
}

// TestReadResource_ownerIsBack: a host that was dead has joined anew and holds the resource; we have not looked at it since.
func TestReadResource_ownerIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.join(1, "a", 2*Fast.IOTimeout), b.join(2, "b", 2*Fast.IOTimeout)
		b.run(two)
		time.Sleep(Fast.HostDead() + 3*Fast.RenewalPeriod())
		synctest.Wait()
		if h := two.HostStatus(1); h.State != HostDead || one.Generation() != 1 {
			t.Fatalf("%+v", h)
		}
		back := b.leaderOf(1)
		back.OwnerGeneration, back.Timestamp = 2, back.Timestamp+1000
		b.putLeader(1, back)
		l := b.leader()
		l.Lver, l.OwnerID, l.OwnerGeneration, l.Timestamp, l.WriteID = 1, 1, 2, back.Timestamp, 1
		sector := make([]byte, 512)
		l.Encode(sector)
		b.mem.SetBytes(mib, sector)
		if j := b.agree(two); j.State != ResourceExclusive || j.Takeable {
			t.Errorf("%+v", j)
		}
	})
}

// committedBy makes another host the one that wrote the leader.
func (b *bubble) committedBy(host uint64) {
	late := b.leader()
	late.WriteID = host
	sector := make([]byte, 512)
	late.Encode(sector)
	b.mem.SetBytes(mib, sector)
}

// TestRun_lost: overwritten records end the lockspace at once, silence of the disk after 8N.
func TestRun_lost(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		ls := b.join(1, "a", 2*Fast.IOTimeout)
		l, err := ls.Acquire(b.ctx(time.Minute), b.spec())
		if err != nil {
			t.Fatal(err)
		}
		b.mem.SetBytes(100, []byte{1})
		if err := ls.Run(b.ctx(time.Hour)); !errors.Is(err, ErrLost) || !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v", err)
		}
		if err := l.Check(0); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
		other := b.join(2, "b", 2*Fast.IOTimeout)
		b.mem.SetReadOnly(true)
		last := other.lastRenewal()
		if err := other.Run(b.ctx(time.Hour)); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
		if took := b.clock.Boot() - last; took < Fast.Expiry() || took > Fast.Expiry()+retryRenewal {
			t.Errorf("lost after %v", took)
		}
	})
}

// TestGuard_suspend: a jump of the boot clock ends the lease although no timer ran.
func TestGuard_suspend(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		ls := b.join(1, "a", 2*Fast.IOTimeout)
		l, err := ls.Acquire(b.ctx(time.Minute), b.spec())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Check(Fast.Expiry() / 2); err != nil {
			t.Error(err)
		}
		b.clock.Skew += Fast.Expiry()
		if err := l.Check(0); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
		if _, err := ls.Acquire(b.ctx(time.Minute), b.spec()); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
	})
}

// TestAcquire_corrupt: bad records are told apart and never believed.
func TestAcquire_corrupt(t *testing.T) {
	for name, c := range map[string]struct {
		at   int64
		byte byte
		want error
	}{
		"leader's magic":    {mib, 0xff, ErrNoLease},
		"leader's version":  {mib + 6, 0xff, ErrVersion},
		"leader's space":    {mib + 56, 'x', ErrNoLease},
		"leader's owner":    {mib + 32, 7, ErrCorrupt},
		"a host's block":    {mib + 512*4, 7, ErrCorrupt},
		"leader's sum":      {mib + 168, 0xff, ErrCorrupt},
		"number of hosts 0": {mib + 16, 0, ErrHostIDRange},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				ls := b.join(1, "a", 2*Fast.IOTimeout)
				b.mem.SetBytes(c.at, []byte{c.byte})
				if _, err := ls.Acquire(b.ctx(time.Minute), b.spec()); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}

// countingDevice counts calls and bytes.
type countingDevice struct {
	blockdev.Device
	reads, writes, flushes, readBytes, wroteBytes int
}

func (c *countingDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	c.reads++
	c.readBytes += len(p)
	return c.Device.ReadAt(ctx, p, off)
}

func (c *countingDevice) WriteAt(ctx context.Context, p []byte, off int64) error {
	c.writes++
	c.wroteBytes += len(p)
	return c.Device.WriteAt(ctx, p, off)
}

func (c *countingDevice) Flush(ctx context.Context) error { c.flushes++; return c.Device.Flush(ctx) }

// TestIOCounts fixes what an acquire, a release and a renewal may cost.
func TestIOCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		c := &countingDevice{Device: b.mem}
		cfg := b.config(1, "a")
		cfg.Device = c
		ls, err := Join(b.ctx(time.Minute), cfg)
		if err != nil {
			t.Fatal(err)
		}
		spec := b.spec()
		spec.Device = c
		want := func(what string, reads, writes, readBytes, wroteBytes int) {
			t.Helper()
			if c.reads != reads || c.writes != writes || c.readBytes != readBytes || c.wroteBytes != wroteBytes {
				t.Errorf("%s: %d reads of %d, %d writes of %d", what, c.reads, c.readBytes, c.writes, c.wroteBytes)
			}
			*c = countingDevice{Device: b.mem}
		}
		*c = countingDevice{Device: b.mem}
		for i, first := range []int{firstRead, 5120} { // the first time the number of hosts is not known
			l, err := ls.Acquire(b.ctx(time.Minute), spec)
			if err != nil {
				t.Fatal(err)
			}
			want("acquire", 3, 3, first+2*5120, 3*512)
			if err := l.Release(b.ctx(time.Minute)); err != nil {
				t.Fatal(i, err)
			}
			want("release", 1, 2, 512, 2*512)
		}
		*c = countingDevice{Device: b.mem}
		if err := ls.renew(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		want("renewal", 1, 1, minCover*512, 512)
	})
}

// TestRenew_allocations: what a renewal allocates is contexts only, no buffers.
func TestRenew_allocations(t *testing.T) {
	mem := blockdev.NewMem(2*mib, 512)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := Profile{Name: "test", IOTimeout: time.Second, Watchdog: time.Second}
	if err := InitLockspace(ctx, mem, 0, Geometry512, "ls", p.IOTimeout); err != nil {
		t.Fatal(err)
	}
	ls, err := Join(ctx, LockspaceConfig{Device: mem, Name: "ls", HostID: 1, HostName: "a", Profile: p, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = ls.renew(ctx) }); n > 20 {
		t.Errorf("%v allocations in a renewal", n)
	} else {
		t.Logf("%v allocations in a renewal", n)
	}
}

// TestNumHosts_validated: a number of hosts that would lead out of the area, or that the ballots would count by, is not
// believed even with a good checksum.
func TestNumHosts_validated(t *testing.T) {
	for name, change := range map[string]func(l *Leader){
		"more hosts than fit":          func(l *Leader) { l.NumHosts = 2001 },
		"a huge number of hosts":       func(l *Leader) { l.NumHosts = 1 << 62 },
		"another maximum":              func(l *Leader) { l.MaxHosts = 250 },
		"a maximum of none":            func(l *Leader) { l.NumHosts, l.MaxHosts = 0, 0 },
		"more than a maximum of a few": func(l *Leader) { l.MaxHosts = 4 },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				ls := b.join(1, "a", 2*Fast.IOTimeout)
				l, sector := b.leader(), make([]byte, 512)
				change(&l)
				l.Encode(sector)
				b.mem.SetBytes(mib, sector)
				_, exclusive := ls.Acquire(b.ctx(time.Minute), b.spec())
				_, shared := ls.AcquireShared(b.ctx(time.Minute), b.spec())
				_, read := ls.ReadResource(b.ctx(time.Minute), b.spec())
				for what, err := range map[string]error{"exclusive": exclusive, "shared": shared, "read": read} {
					if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrHostIDRange) {
						t.Errorf("%s: %v", what, err)
					}
				}
			})
		})
	}
}
