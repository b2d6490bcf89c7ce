package leases

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// onDiskRequest is the request record.
func (b *bubble) onDiskRequest() Request {
	b.t.Helper()
	var r Request
	if err := r.Decode(b.mem.Bytes(mib+512, 512)); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// bit says whether from's record has the bit of host to.
func (b *bubble) bit(from, to int) bool {
	m := Bitmap(b.mem.Bytes(int64(from-1)*512+bitmapOffset, bitmapSize))
	return m.Has(to)
}

// renewals lets all hosts renew n times.
func (b *bubble) renewals(n int) {
	time.Sleep(time.Duration(n) * Fast.RenewalPeriod())
	synctest.Wait()
}

func (b *bubble) asks(ls *Lockspace, lver uint64, mode ForceMode) error {
	_, err := ls.Request(b.ctx(time.Minute), b.spec(), lver, mode)
	return err
}

// TestRequest: the record, the owner's bit for 6N, and both gone afterwards.
func TestRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		l := b.exclusive(one)
		if err := b.asks(two, 0, RequestGraceful); err != nil {
			t.Fatal(err)
		}
		if r := b.onDiskRequest(); r.Lver != 2 || r.ForceMode != RequestGraceful || !r.Pending(1) || r.Pending(2) {
			t.Errorf("%+v", r)
		}
		if b.bit(2, 1) {
			t.Error("the bit is set before a renewal")
		}
		b.renewals(1)
		if !b.bit(2, 1) {
			t.Error("no bit after a renewal")
		}
		if err := two.Settle(b.ctx(time.Minute)); err != nil || b.onDiskRequest().Lver != 2 {
			t.Errorf("cleared too early: %v", err)
		}
		if err := b.asks(two, 2, RequestForce); err != nil || b.onDiskRequest().ForceMode != RequestForce {
			t.Errorf("asked again: %v", err)
		}
		b.give(l.Release)
		if err := two.Settle(b.ctx(time.Minute)); err != nil || b.onDiskRequest() != (Request{Magic: magicRequest, Version: versionRequest}) {
			t.Errorf("given way, but %+v (%v)", b.onDiskRequest(), err)
		}
		b.renewals(4)
		if b.bit(2, 1) {
			t.Error("the bit is still set")
		}
	})
}

// TestRequest_expires: a request that is not granted is cleared after 6N.
func TestRequest_expires(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		b.exclusive(one)
		if err := b.asks(two, 0, RequestForce); err != nil {
			t.Fatal(err)
		}
		time.Sleep(Fast.keepNotice())
		if err := two.Settle(b.ctx(time.Minute)); err != nil || b.onDiskRequest().Lver != 0 {
			t.Errorf("%+v, %v", b.onDiskRequest(), err)
		}
	})
}

// TestRequest_leave: a host that leaves takes its requests along.
func TestRequest_leave(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		b.exclusive(one)
		if err := b.asks(two, 0, RequestForce); err != nil {
			t.Fatal(err)
		}
		if err := two.Leave(b.ctx(time.Minute)); err != nil || b.onDiskRequest().Lver != 0 {
			t.Errorf("%+v, %v", b.onDiskRequest(), err)
		}
	})
}

// TestRequest_refused: nothing is written, whatever is asked for.
func TestRequest_refused(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(b *bubble, one, two *Lockspace)
		lver    uint64
		mode    ForceMode
		want    error
	}{
		"free":             {func(*bubble, *Lockspace, *Lockspace) {}, 0, RequestForce, nil},
		"shared, by force": {func(b *bubble, one, _ *Lockspace) { b.shared(one) }, 0, RequestForce, ErrShared},
		"shared":           {func(b *bubble, one, _ *Lockspace) { b.shared(one) }, 0, RequestGraceful, ErrShared},
		"shared, was exclusive": {func(b *bubble, one, _ *Lockspace) { b.convert(b.exclusive(one)) },
			0, RequestForce, ErrShared},
		"exclusive, with a sharer": {func(b *bubble, one, two *Lockspace) {
			b.exclusive(one)
			b.setBlock(2, DBlock{ModeFlags: flagShared, ModeGeneration: two.Generation()})
		}, 0, RequestForce, ErrShared},
		"our own":         {func(b *bubble, _, two *Lockspace) { b.exclusive(two) }, 0, RequestForce, ErrHeldHere},
		"no mode":         {func(b *bubble, one, _ *Lockspace) { b.exclusive(one) }, 0, RequestNone, ErrRequest},
		"this version":    {func(b *bubble, one, _ *Lockspace) { b.exclusive(one) }, 1, RequestForce, ErrRequest},
		"a later version": {func(b *bubble, one, _ *Lockspace) { b.exclusive(one) }, 3, RequestForce, ErrRequest},
		"another asks for a later one": {func(b *bubble, one, _ *Lockspace) {
			b.exclusive(one)
			sector := make([]byte, 512)
			(&Request{Magic: magicRequest, Version: versionRequest, Lver: 7, ForceMode: RequestGraceful}).Encode(sector)
			b.mem.SetBytes(mib+512, sector)
		}, 0, RequestForce, ErrRequest},
		"no record": {func(b *bubble, one, _ *Lockspace) {
			b.exclusive(one)
			b.mem.SetBytes(mib+512, make([]byte, 512))
		}, 0, RequestForce, ErrNoLease},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				one, two := b.two()
				c.prepare(b, one, two)
				before := b.mem.Bytes(mib, mib)
				if err := b.asks(two, c.lver, c.mode); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				b.renewals(2)
				if !bytes.Equal(b.mem.Bytes(mib, mib), before) || b.bit(2, 1) {
					t.Error("something was written")
				}
			})
		})
	}
}

// TestRequest_overtaken: an owner that goes between our look and our write must not leave a request behind, which could
// hit those who share the resource next.
func TestRequest_overtaken(t *testing.T) {
	for name, moves := range map[string]func(b *bubble, l *Lease){
		"released":  func(b *bubble, l *Lease) { b.give(l.Release) },
		"to shared": func(b *bubble, l *Lease) { b.convert(l) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				one, two := b.two()
				l := b.exclusive(one)
				h := &hookDevice{Device: b.mem}
				h.before = func(int64) { h.before = nil; moves(b, l) }
				spec := b.spec()
				spec.Device = h
				if _, err := two.Request(b.ctx(time.Minute), spec, 0, RequestForce); err != nil {
					t.Error(err)
				}
				if r := b.onDiskRequest(); r.Lver != 0 || r.ForceMode != RequestNone {
					t.Errorf("left behind: %+v", r)
				}
			})
		})
	}
}

// TestClearRequest: ours is cleared, one that replaced ours is not, and a stranger's is when we have none.
func TestClearRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		b.exclusive(one)
		if err := b.asks(two, 0, RequestGraceful); err != nil {
			t.Fatal(err)
		}
		sector := make([]byte, 512)
		theirs := Request{Magic: magicRequest, Version: versionRequest, Lver: 2, ForceMode: RequestForce}
		theirs.Encode(sector)
		b.mem.SetBytes(mib+512, sector)
		if err := two.ClearRequest(b.ctx(time.Minute), b.spec()); err != nil || b.onDiskRequest() != theirs {
			t.Errorf("%+v, %v", b.onDiskRequest(), err)
		}
		if err := two.ClearRequest(b.ctx(time.Minute), b.spec()); err != nil || b.onDiskRequest().Lver != 0 {
			t.Errorf("%+v, %v", b.onDiskRequest(), err)
		}
		if r, err := two.ReadRequest(b.ctx(time.Minute), b.spec()); err != nil || r.ForceMode != RequestNone {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestRequest_writeLost: a request whose write may still land is cleared later, not forgotten.
func TestRequest_writeLost(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		b.exclusive(one)
		f := b.faulty()
		f.arm(0, fateLanded, false)
		spec := b.spec()
		spec.Device = f
		if _, err := two.Request(b.ctx(time.Minute), spec, 0, RequestForce); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
		time.Sleep(Fast.keepNotice())
		if err := two.Settle(b.ctx(time.Minute)); err != nil || b.onDiskRequest().Lver != 0 {
			t.Errorf("%+v, %v", b.onDiskRequest(), err)
		}
	})
}
