package qmp

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const mib = 1 << 20

// watched runs a monitor with one volume of 10 MiB, of which 4 must be free, in a bubble.
func watched(t *testing.T, f *fakeQEMU, test func(m *Monitor, v *Volume)) {
	t.Helper()
	c := DefaultConfig()
	c.Socket = "/run/qmp.sock"
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	m.dial = f.dial
	f.room = 10 * mib
	v, err := m.Add(VolumeConfig{Node: "dev", Above: []string{"fmt"}, AllocatedBytes: 10 * mib, MaxBytes: 100 * mib, ThresholdBytes: 4 * mib, HighBytes: mib})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	synctest.Wait()
	test(m, v)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.serving.Wait()
}

// next waits for an event, in virtual time.
func next(t *testing.T, v *Volume, seq uint64) Status {
	t.Helper()
	s, err := v.Watch(soon(t), seq)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMonitor_lowByEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		watched(t, f, func(_ *Monitor, v *Volume) {
			s := next(t, v, 0)
			if !s.Connected || s.Low || s.HighBytes != mib {
				t.Fatalf("%+v", s)
			}
			if at, _ := f.state(); at != 6*mib {
				t.Fatalf("threshold %d", at)
			}
			begin := time.Now()
			f.write(6 * mib) // on it, not behind it
			f.write(6*mib + 512)
			if s = next(t, v, s.Seq); !s.Low || s.HighBytes != 6*mib+512 || time.Since(begin) != 0 || s.GrowRate <= 0 {
				t.Fatalf("%+v after %v", s, time.Since(begin))
			}
			f.room = 20 * mib
			if s = v.Grow(20 * mib); s.Low || s.AllocatedBytes != 20*mib {
				t.Fatalf("%+v", s)
			}
			synctest.Wait()
			if at, _ := f.state(); at != 16*mib {
				t.Errorf("threshold %d after the growth", at)
			}
			if v.Grow(15*mib).AllocatedBytes != 20*mib {
				t.Error("made smaller")
			}
			f.write(17 * mib)
			if s = next(t, v, s.Seq); !s.Low {
				t.Errorf("%+v", s)
			}
		})
	})
}

// An event that was missed is made up for by the poll.
func TestMonitor_lowByPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		watched(t, f, func(_ *Monitor, v *Volume) {
			s := next(t, v, 0)
			f.mu.Lock()
			f.high, f.threshold = 9*mib, 0
			f.mu.Unlock()
			begin := time.Now()
			if s = next(t, v, s.Seq); !s.Low || s.HighBytes != 9*mib || time.Since(begin) > 30*time.Second {
				t.Errorf("%+v after %v", s, time.Since(begin))
			}
		})
	})
}

// A guest that was paused for lack of space goes on after the growth, and not before; one that somebody paused stays paused.
func TestMonitor_noSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		watched(t, f, func(_ *Monitor, v *Volume) {
			f.write(9 * mib)
			synctest.Wait()
			f.write(11 * mib)
			synctest.Wait()
			s := v.Status()
			if s.Waiting != 1 || s.Denied != 1 || s.WantBytes <= s.AllocatedBytes || !s.Low || !strings.Contains(s.LastError, "did not fit") {
				t.Fatalf("%+v", s)
			}
			time.Sleep(5 * time.Second)
			if _, status := f.state(); status != "io-error" || f.count("cont") != 0 {
				t.Fatalf("%s before there is space", status)
			}
			f.room = 20 * mib
			v.Grow(20 * mib)
			synctest.Wait()
			if _, status := f.state(); status != "running" || f.count("cont") != 1 || v.Status().Waiting != 0 {
				t.Fatalf("%s, %+v", status, v.Status())
			}
			f.mu.Lock()
			f.status, f.ioStatus = "paused", "nospace"
			f.mu.Unlock()
			v.Grow(30 * mib)
			synctest.Wait()
			if f.count("cont") != 1 {
				t.Error("let go on a guest that a person has paused")
			}
		})
	})
}

// The event of a write that did not fit may be read after the guest was let go on: a look had found it first.
func TestMonitor_lateEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		watched(t, f, func(_ *Monitor, v *Volume) {
			late := Event{Name: EventIOError, Data: []byte(`{"node-name": "fmt", "action": "stop", "nospace": true, "reason": "No space left on device"}`)}
			if ours, err := v.happened(late); !ours || err != nil {
				t.Fatalf("%v, %v", ours, err)
			}
			if s := v.Status(); s.Waiting != 0 || s.WantBytes != 0 || s.Denied != 1 {
				t.Errorf("the guest runs: %+v", s)
			}
		})
	})
}

// QEMU, or the connection, dies and comes back: what happened meanwhile is found, and the threshold is set again.
func TestMonitor_reconnects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		watched(t, f, func(_ *Monitor, v *Volume) {
			f.hangUp()
			synctest.Wait()
			s := v.Status()
			if s.Connected || s.LastError == "" {
				t.Fatalf("%+v", s)
			}
			f.mu.Lock()
			f.high = 5 * mib
			f.mu.Unlock()
			if s = next(t, v, s.Seq); !s.Connected || s.HighBytes != 5*mib {
				t.Fatalf("%+v", s)
			}
			synctest.Wait()
			if at, _ := f.state(); at != 6*mib {
				t.Errorf("threshold %d", at)
			}
			f.mu.Lock()
			f.silent = true // hangs
			f.mu.Unlock()
			if s = next(t, v, s.Seq); s.Connected {
				t.Errorf("%+v of one that hangs", s)
			}
			f.mu.Lock()
			f.silent = false
			f.mu.Unlock()
			if s = next(t, v, s.Seq); !s.Connected {
				t.Errorf("%+v", s)
			}
		})
	})
}

// A volume that QEMU does not have is told so, and does not hold up the others.
func TestMonitor_noNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		watched(t, f, func(m *Monitor, v *Volume) {
			w, err := m.Add(VolumeConfig{Node: "gone", AllocatedBytes: 1, MaxBytes: 2})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Add(VolumeConfig{Node: "dev", AllocatedBytes: 1, MaxBytes: 2}); !errors.Is(err, ErrConfig) {
				t.Errorf("twice: %v", err)
			}
			synctest.Wait()
			if s := w.Status(); s.Connected || !strings.Contains(s.LastError, "no such block node") {
				t.Errorf("%+v", s)
			}
			seq := v.Status().Seq
			f.write(7 * mib)
			if s := next(t, v, seq); !s.Low {
				t.Errorf("%+v", s)
			}
			m.Remove(w)
			if _, err := w.Watch(soon(t), w.Status().Seq); !errors.Is(err, ErrEnded) {
				t.Errorf("%v", err)
			}
		})
	})
}

func TestMonitor_end(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m *Monitor
		var v *Volume
		watched(t, newFake(t), func(mm *Monitor, vv *Volume) { m, v = mm, vv })
		if _, err := v.Watch(soon(t), v.Status().Seq); !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
		if _, err := m.Add(VolumeConfig{Node: "x", AllocatedBytes: 1, MaxBytes: 1}); !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
		v.Grow(1) // harmless
	})
}

func TestConfig_validate(t *testing.T) {
	t.Parallel()
	for i, change := range []func(*Config){
		func(c *Config) { c.Socket = "qmp" }, func(c *Config) { c.Socket = "/" + strings.Repeat("x", maxSocket) },
		func(c *Config) { c.PollEvery = 0 }, func(c *Config) { c.Log = nil },
	} {
		c := DefaultConfig()
		c.Socket = "/x"
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for i, c := range []VolumeConfig{{}, {Node: "x"}, {Node: "x", AllocatedBytes: 2, MaxBytes: 1}, {Node: "x", AllocatedBytes: 1, MaxBytes: 1, HighBytes: -1}} {
		if c.Validate() == nil {
			t.Errorf("%d is accepted", i)
		}
	}
}
