package leases

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// hearing joins as host id and collects what it hears.
type hearing struct {
	*Lockspace
	events []HostEvent
	alerts []int
}

func (b *bubble) hear(id int, name string) *hearing {
	b.t.Helper()
	h := &hearing{}
	cfg := b.config(id, name)
	cfg.OnEvent = func(e HostEvent) { h.events = append(h.events, e) }
	cfg.OnAlert = func(from int) { h.alerts = append(h.alerts, from) }
	ls, err := Join(b.ctx(time.Hour), cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	h.Lockspace = ls
	b.run(ls)
	return h
}

func (b *bubble) send(from *Lockspace, to int, generation, event uint64) {
	b.t.Helper()
	if err := from.SendEvent(b.ctx(time.Minute), to, generation, event, event+100); err != nil {
		b.t.Fatal(err)
	}
}

// TestHostEvent: an event is in the record with the bit of its one host for 6N, and is heard once.
func TestHostEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two, three := b.hear(1, "a"), b.hear(2, "b"), b.hear(3, "c")
		b.renewals(2)
		b.send(two.Lockspace, 1, 1, 7)
		b.send(two.Lockspace, 1, 1, 7) // the same one
		b.renewals(1)
		var l Leader
		_ = l.Decode(b.mem.Bytes(512, 512))
		if !b.bit(2, 1) || b.bit(2, 3) || l.WriteID != 1 || l.WriteGeneration != 7 || l.WriteTimestamp != 107 {
			t.Errorf("bit %v, record %+v", b.bit(2, 1), l)
		}
		b.renewals(5)
		if _ = l.Decode(b.mem.Bytes(512, 512)); b.bit(2, 1) || l.WriteGeneration != 0 {
			t.Errorf("after 6N: bit %v, record %+v", b.bit(2, 1), l)
		}
		want := []HostEvent{{From: 2, FromGeneration: 1, Generation: 1, Event: 7, Data: 107}}
		if !slices.Equal(one.events, want) || !slices.Equal(one.alerts, []int{2}) {
			t.Errorf("host 1 heard %+v, %v", one.events, one.alerts)
		}
		if len(three.events)+len(three.alerts)+len(two.events)+len(two.alerts) > 0 {
			t.Errorf("others heard %+v %v, %+v %v", three.events, three.alerts, two.events, two.alerts)
		}
		b.send(two.Lockspace, 1, 0, 7) // later, the same means it anew
		b.renewals(2)
		if len(one.events) != 2 {
			t.Errorf("the second time: %+v", one.events)
		}
	})
}

// TestHostEvent_notMixed: the record does not name the host that an event is for. So a host that is only asked to look
// at requests, or that another event is for, must never see its bit beside this one.
func TestHostEvent_notMixed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two, three := b.hear(1, "a"), b.hear(2, "b"), b.hear(3, "c")
		b.renewals(2)
		b.send(two.Lockspace, 1, 0, 7)
		two.askToLook(3)
		b.send(two.Lockspace, 3, 0, 9)
		b.send(two.Lockspace, 1, 0, 8)
		two.askToLook(1)
		var last Leader
		shown := map[uint64]int{}
		for range 200 {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			var l Leader
			if _ = l.Decode(b.mem.Bytes(512, 512)); l == last {
				continue
			}
			last = l
			shown[l.WriteGeneration]++
			if to3, to1 := b.bit(2, 3), b.bit(2, 1); l.WriteGeneration == 9 && to1 || l.WriteGeneration != 9 && l.WriteGeneration != 0 && to3 {
				t.Fatalf("event %d with the bits of host 1 %v and host 3 %v", l.WriteGeneration, to1, to3)
			}
		}
		if shown[7] != 3 || shown[8] != 3 || shown[9] != 3 {
			t.Errorf("how often each was in the record: %v", shown)
		}
		if len(one.events) != 2 || len(three.events) != 1 || !slices.Equal(three.alerts, []int{2, 2}) || len(one.alerts) < 2 {
			t.Errorf("heard %+v %v, %+v %v", one.events, one.alerts, three.events, three.alerts)
		}
	})
}

// TestHostEvent_notOurs: events for another life of ours, and what stood in a record before we came.
func TestHostEvent_notOurs(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		two := b.join(2, "b", 2*Fast.IOTimeout)
		b.send(two, 1, 0, 5)
		if err := two.renew(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		one := b.hear(1, "a") // host 2 is silent now; its record says 5 to host 1
		b.renewals(1)
		if !b.bit(2, 1) || len(one.events)+len(one.alerts) > 0 {
			t.Errorf("bit %v, heard %+v, %v", b.bit(2, 1), one.events, one.alerts)
		}
		b.run(two) // alive after all
		b.renewals(2)
		if len(one.events) != 1 {
			t.Errorf("heard %+v", one.events)
		}
		b.renewals(4)
		b.send(two, 1, 2, 6)
		b.renewals(2)
		if len(one.events) != 1 {
			t.Errorf("heard what was for generation 2: %+v", one.events)
		}
	})
}

func TestSendEvent_refused(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, _ := b.two()
		two := b.join(2, "b", 2*Fast.IOTimeout) // generation 2
		b.run(two)
		b.renewals(2)
		for name, c := range map[string]struct {
			host                    int
			generation, event, data uint64
			want                    error
		}{
			"no host":         {0, 0, 1, 0, ErrHostIDRange},
			"a host too high": {2001, 0, 1, 0, ErrHostIDRange},
			"ourselves":       {1, 0, 1, 0, ErrHostIDRange},
			"no event":        {2, 0, 0, 1, ErrRequest},
			"a former life":   {2, 1, 1, 0, ErrChanged},
			"this life":       {2, 2, 1, 0, nil},
		} {
			if err := one.SendEvent(b.ctx(time.Minute), c.host, c.generation, c.event, c.data); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for i := range uint64(maxEvents) {
			_ = one.SendEvent(b.ctx(time.Minute), 2, 0, 10+i, 0)
		}
		if err := one.SendEvent(b.ctx(time.Minute), 2, 0, 99, 0); !errors.Is(err, ErrBusy) {
			t.Errorf("one too many: %v", err)
		}
	})
}

// TestListen_golden: an event as sanlock wrote it is understood, and we write the same bytes.
func TestListen_golden(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/golden/delta-512-host5-event+bitmap3.bin")
	if err != nil {
		t.Fatal(err)
	}
	var h heard
	n, ok := h.listen(b, 3, 5, 1, time.Hour, time.Minute)
	want := HostEvent{From: 5, FromGeneration: 1, Generation: 1, Event: 0x1122334455667788, Data: 0x99aabbccddeeff00}
	if !ok || !n.alert || n.event != want {
		t.Errorf("%v, %+v", ok, n)
	}
	if n, ok := h.listen(b, 3, 5, 1, time.Hour, time.Minute); ok {
		t.Errorf("heard twice: %+v", n)
	}
	if n, ok := h.listen(b, 3, 5, 1, time.Hour+time.Minute, time.Minute); !ok || !n.alert || n.event.Event != 0 {
		t.Errorf("after 6N: %v, %+v", ok, n)
	}
	if n, ok := new(heard).listen(b, 4, 5, 1, time.Hour, time.Minute); ok {
		t.Errorf("host 4 heard %+v", n)
	}
	var l Leader
	if err := l.Decode(b); err != nil {
		t.Fatal(err)
	}
	ls := &Lockspace{cfg: LockspaceConfig{HostID: 5, Profile: Fast}, geo: Geometry512}
	ls.out.events = []eventOut{{3, want.Generation, want.Event, want.Data}}
	l.WriteID, l.WriteGeneration, l.WriteTimestamp = 0, 0, 0
	out := make([]byte, 512)
	ls.announce(&l, (*Bitmap)(out[bitmapOffset:]), time.Hour)
	l.Encode(out)
	if !bytes.Equal(out, b) {
		t.Errorf("we write\n%x\nsanlock wrote\n%x", out, b)
	}
}

// TestNotices_turns: bits and events each get their whole time, and neither keeps the other out.
func TestNotices_turns(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one := b.join(1, "a", 2*Fast.IOTimeout)
		var shown []uint64 // event of each renewal; 1000 for bits alone
		for i := range 24 {
			one.askToLook(3) // somebody asks for something all the time
			if i == 1 {
				b.send(one, 2, 0, 7)
				b.send(one, 2, 0, 8)
			}
			if err := one.renew(b.ctx(time.Minute)); err != nil {
				t.Fatal(err)
			}
			var l Leader
			_ = l.Decode(b.mem.Bytes(0, 512))
			switch {
			case b.bit(1, 3):
				shown = append(shown, 1000)
			default:
				shown = append(shown, l.WriteGeneration)
			}
			time.Sleep(Fast.RenewalPeriod())
		}
		got := slices.Compact(slices.Clone(shown))
		if want := []uint64{1000, 7, 1000, 8, 1000}; !slices.Equal(got, want) {
			t.Errorf("turns %v, want %v (%v)", got, want, shown)
		}
		for _, turn := range []uint64{7, 8} {
			if n := len(shown) - len(slices.DeleteFunc(slices.Clone(shown), func(e uint64) bool { return e == turn })); n != 3 {
				t.Errorf("event %d was in %d renewals", turn, n)
			}
		}
		if first := slices.Index(shown, 7); first < 3 {
			t.Errorf("the bits were cut short: %v", shown)
		}
	})
}
