package leases

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// judged is the resource as a survey sees it that knows what seen has observed.
func (b *bubble) judged(seen *Lockspace) Judgement {
	b.t.Helper()
	var hosts []HostStatus
	if seen != nil {
		hosts = seen.Hosts()
	}
	r, err := SightResource(b.mem.Bytes(mib, 128<<10), Geometry512, "ls", "res")
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := ReadSurvey(b.ctx(time.Minute), b.mem, 0, Geometry512, "ls", 250, hosts)
	if err != nil {
		b.t.Fatal(err)
	}
	j, err := s.Judge(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return j
}

// agree compares a judgement with what a lockspace finds by itself, which reads the records of the owners.
func (b *bubble) agree(ls *Lockspace) Judgement {
	b.t.Helper()
	j, info := b.judged(ls), b.state(ls)
	if j.State != info.State || j.Takeable != info.Takeable || j.Version != info.Version || len(info.Sharers) > 0 && len(j.Holders) != len(info.Sharers) {
		b.t.Errorf("judged %+v, the lockspace says %+v", j, info)
	}
	if j.State != ResourceShared && (j.Owner != info.Owner || j.Generation != info.Generation) {
		b.t.Errorf("judged %+v, the lockspace says %+v", j, info)
	}
	return j
}

func TestSurvey_agreesWithTheLockspace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		if j := b.agree(one); j.State != ResourceFree || !j.Takeable || j.Former != nil {
			t.Errorf("never taken: %+v", j)
		}
		l := b.exclusive(one)
		b.give(l.Release)
		if j := b.agree(two); j.State != ResourceFree || j.Owner != 1 || j.Former != nil {
			t.Errorf("given back: %+v", j)
		}
		l = b.exclusive(one)
		if j := b.agree(two); j.State != ResourceExclusive || j.Owner != 1 || j.Takeable || j.FreeIn != 0 || j.Reason == "" {
			t.Errorf("held: %+v", j)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if j := b.agree(two); j.Held < 50*time.Second || j.Held > 70*time.Second {
			t.Errorf("held for %v, it is a minute", j.Held)
		}
		s := b.convert(l)
		b.shared(two)
		if j := b.agree(one); j.State != ResourceShared || len(j.Holders) != 2 || j.Owner != 1 || j.Takeable {
			t.Errorf("shared: %+v", j)
		}
		b.give(s.Release)
		if j := b.agree(one); j.State != ResourceShared || len(j.Holders) != 1 || j.Owner != 2 {
			t.Errorf("shared by the other one: %+v", j)
		}
	})
}

func TestSurvey_silentHolder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.join(1, "a", 2*Fast.IOTimeout), b.join(2, "b", 2*Fast.IOTimeout)
		b.run(two)
		stop := b.run(one)
		time.Sleep(3 * Fast.RenewalPeriod())
		b.exclusive(one)
		stop()
		time.Sleep(Fast.Expiry() + Fast.RenewalPeriod())
		synctest.Wait()
		j := b.agree(two)
		if j.State != ResourceExclusive || j.Takeable || j.FreeIn <= 0 || j.FreeIn > Fast.Watchdog || j.Holders[0].Status.State != HostFail {
			t.Errorf("after 8N: %+v", j)
		}
		time.Sleep(j.FreeIn - time.Second)
		synctest.Wait()
		if j := b.agree(two); j.Takeable {
			t.Errorf("a second before: %+v", j)
		}
		time.Sleep(2*Fast.RenewalPeriod() + time.Second)
		synctest.Wait()
		if j := b.agree(two); !j.Takeable || j.State != ResourceExclusive || j.FreeIn != 0 {
			t.Errorf("after 8N + W: %+v", j)
		}
		if j := b.judged(nil); j.Takeable || j.State != ResourceExclusive {
			t.Errorf("without a keeper nobody is known to be dead: %+v", j)
		}
	})
}

func TestSurvey_holderLeftOrCameBack(t *testing.T) {
	for name, gone := range map[string]func(b *bubble, one *Lockspace){
		"left": func(b *bubble, one *Lockspace) {
			l := b.leaderOf(1)
			l.Timestamp = 0
			b.putLeader(1, l)
		},
		"came back": func(b *bubble, one *Lockspace) { b.join(1, "a", 2*Fast.IOTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				one, two := b.join(1, "a", 2*Fast.IOTimeout), b.join(2, "b", 2*Fast.IOTimeout)
				b.run(two)
				stop := b.run(one)
				time.Sleep(3 * Fast.RenewalPeriod())
				b.exclusive(one)
				stop()
				gone(b, one)
				// The records on disk tell it at once, whatever the last look of a keeper has found.
				j := b.judged(two)
				if j.State != ResourceFree || !j.Takeable || j.Owner != 1 {
					t.Errorf("%+v", j)
				}
				if f := j.Former; f == nil || f.HostID != 1 || f.Generation != j.Generation || f.Status.State != HostFree && f.Status.Generation <= f.Generation {
					t.Errorf("who had it is not told: %+v", f)
				}
			})
		})
	}
}

// A record that reads free in an earlier generation than the one that shares a resource says nothing about that: an acquire would wait.
func TestSurvey_staleFreeSharer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		b.shared(two)
		if err := one.Look(b.ctx(time.Minute)); err != nil { // its keeper knows the later generation
			t.Fatal(err)
		}
		l := b.leaderOf(2)
		l.Timestamp, l.OwnerGeneration = 0, l.OwnerGeneration-1
		b.putLeader(2, l)
		j := b.judged(one)
		if j.State != ResourceShared || j.Takeable || len(j.Holders) != 1 || j.Holders[0].HostID != 2 || j.Holders[0].Status.State != HostFree {
			t.Errorf("%+v", j)
		}
		s, err := ReadSurvey(b.ctx(time.Minute), b.mem, 0, Geometry512, "ls", 250, one.Hosts())
		if err != nil || s.Highest() != 2 {
			t.Errorf("blocks are read up to host id %d, %v", s.Highest(), err)
		}
	})
}

// leaderOf is the record of a host id.
func (b *bubble) leaderOf(id int) Leader {
	var l Leader
	_ = l.Decode(b.mem.Bytes(Geometry512.sector(id-1), 512))
	return l
}

func (b *bubble) putLeader(id int, l Leader) {
	p := b.mem.Bytes(Geometry512.sector(id-1), 512)
	l.Encode(p)
	b.mem.SetBytes(Geometry512.sector(id-1), p)
}

func TestSurvey_damagedRecordProvesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		b.exclusive(one)
		p := b.mem.Bytes(0, 512)
		p[40]++ // another generation, and a checksum that does not fit
		b.mem.SetBytes(0, p)
		if j := b.judged(two); j.State != ResourceExclusive || j.Takeable {
			t.Errorf("%+v", j)
		}
	})
}

// A host that joined after a resource was read may have a block there that was not looked at.
func TestSurvey_refusesToJudgeWhatWasNotRead(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.join(5, "e", 2*Fast.IOTimeout)
		s, err := ReadSurvey(b.ctx(time.Minute), b.mem, 0, Geometry512, "ls", 250, nil)
		if err != nil || s.Highest() != 5 {
			t.Fatalf("highest %d, %v", s.Highest(), err)
		}
		r, err := SightResource(b.mem.Bytes(mib, Geometry512.sector(AreaSectors(4))), Geometry512, "ls", "res")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Judge(r); !errors.Is(err, ErrCorrupt) {
			t.Errorf("judged without the block of host 5: %v", err)
		}
		r, err = SightResource(b.mem.Bytes(mib, Geometry512.sector(AreaSectors(5))), Geometry512, "ls", "res")
		if err != nil {
			t.Fatal(err)
		}
		if j, err := s.Judge(r); err != nil || j.State != ResourceFree {
			t.Errorf("%+v, %v", j, err)
		}
	})
}

// An owner that finds others sharing has nothing yet.
func TestSurvey_ownerAmongSharers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		b.shared(two)
		l := b.leader()
		l.OwnerID, l.OwnerGeneration, l.Timestamp, l.Lver, l.WriteID = 1, one.Generation(), 77, l.Lver+1, 1
		p := b.mem.Bytes(mib, 512)
		l.Encode(p)
		b.mem.SetBytes(mib, p)
		if j := b.judged(one); j.State != ResourceShared || j.Owner != 2 {
			t.Errorf("%+v", j)
		}
	})
}

func TestResourceAt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		if space, name, err := ResourceAt(b.mem.Bytes(mib, 512)); err != nil || space != "ls" || name != "res" {
			t.Errorf("%q %q %v", space, name, err)
		}
		nameless := b.leader()
		nameless.Resource = Name{}
		p := b.mem.Bytes(mib, 512)
		nameless.Encode(p)
		if _, _, err := ResourceAt(p); !errors.Is(err, ErrNoLease) {
			t.Errorf("without a name: %v", err)
		}
		if _, _, err := ResourceAt(make([]byte, 512)); !errors.Is(err, ErrNoLease) {
			t.Errorf("zeroes: %v", err)
		}
		p = b.mem.Bytes(mib, 512)
		p[32]++
		if _, _, err := ResourceAt(p); !errors.Is(err, ErrCorrupt) {
			t.Errorf("damaged: %v", err)
		}
	})
}

// FuzzSightResource: whatever lies in a resource's area, it is refused or judged, and what is held has a holder.
func FuzzSightResource(f *testing.F) {
	seedAreas(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		area := make([]byte, 4096)
		copy(area, p)
		space, name, err := ResourceAt(area)
		if err != nil {
			return
		}
		r, err := SightResource(area, Geometry512, space, name)
		if err != nil {
			return
		}
		s := &Survey{geo: Geometry512, hosts: make([]HostStatus, 6), damaged: make([]bool, 6), highest: 6}
		if j, err := s.Judge(r); err == nil && j.State != ResourceFree && len(j.Holders) == 0 {
			t.Errorf("%+v has no holder", j)
		}
	})
}

// A record that was freed in an earlier generation proves nothing until it has stood still: whoever looks says the same as an acquire.
func TestSurvey_recordOfEarlierGeneration(t *testing.T) {
	for how, hold := range map[string]func(b *bubble, ls *Lockspace){
		"exclusive": func(b *bubble, ls *Lockspace) { b.exclusive(ls) },
		"shared":    func(b *bubble, ls *Lockspace) { b.shared(ls) },
	} {
		t.Run(how, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				b.join(1, "a", 2*Fast.IOTimeout)
				free := b.leaderOf(1)
				free.Timestamp = 0
				one, two := b.two()
				hold(b, one)
				b.putLeader(1, free)
				spec := b.spec()
				spec.NoWait = true
				for range 60 {
					j := b.agree(two)
					_, err := two.Acquire(b.ctx(time.Hour), spec)
					if may := err == nil; may != j.Takeable {
						t.Fatalf("judged %+v, and the acquire says %v", j, err)
					}
					if err == nil {
						return
					}
					if j.Takeable || j.State == ResourceFree || j.Reason == "" || j.Former != nil {
						t.Fatalf("held, and judged %+v", j)
					}
					time.Sleep(time.Second)
					synctest.Wait()
				}
				t.Error("never given")
			})
		})
	}
}
