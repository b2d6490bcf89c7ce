//go:build vmtest

package pool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// scene is the pool with its one volume, and the process that writes it.
type scene struct {
	*poolHost
	a attachment
	w *writer
}

// step is a subtest whose failure makes the rest senseless.
func (s *scene) step(name string, f func(t *testing.T)) {
	if !s.whole.Run(name, func(t *testing.T) {
		s.t = t
		if s.w != nil {
			s.w.t = t
		}
		f(t)
	}) {
		s.whole.FailNow()
	}
}

// write starts a writer, which lives on in the parts of the test that follow.
func (s *scene) write(stride int64) {
	s.t.Helper()
	s.w = startWriter(s.whole, s.a.Path, stride)
	s.w.t = s.t
}

// TestGuest_pool is a volume's life as a block device, with all of its processes killed in turn under direct writes.
func TestGuest_pool(t *testing.T) {
	s := &scene{poolHost: newHost(t, "none")}
	s.step("attach", func(t *testing.T) {
		s.must(&s.a, "volume", "attach", "disk", "--mapper", "dm")
		if s.a.Mapper != "dm" || !strings.HasPrefix(s.a.Path, "/dev/mapper/") {
			t.Fatalf("%+v", s.a)
		}
		size := agree(t, s.a, "-wi-a-----")
		s.write(size / (slots / 4) / ioBlock * ioBlock)
		agree(t, s.a, "-wi-ao----")
		if l := leaseOf(t, s.record()); l.free() || l.owner != 1 || l.version != s.record().Version {
			t.Errorf("the lease: %+v", l)
		}
	})
	s.step("grow", s.grow)
	s.step("agent killed", s.agentKilled)
	s.step("holder killed", s.holderKilled)
	s.step("keeper killed", s.keeperKilled)
	s.step("taken by another host", s.takenMeanwhile)
	s.step("detach", s.detach)
}

// grow extends the volume under the writer, which comes to use the new space; then real lvm2 loads its own table over ours.
func (s *scene) grow(t *testing.T) {
	before, used := agree(t, s.a, "-wi-ao----"), s.w.slotsWritten()
	s.must(nil, "volume", "extend", "disk", "--size", fmt.Sprint(2*before))
	s.eventually("the device has grown", func() error {
		if now := s.w.board.size.Load(); now < uint64(2*before) {
			return fmt.Errorf("%d bytes", now)
		}
		return nil
	})
	if size := agree(t, s.a, "-wi-ao----"); size < 2*before {
		t.Errorf("lvs: %d bytes", size)
	}
	s.eventually("the new space is written", func() error {
		if s.w.slotsWritten() <= used || s.w.slotsWritten() < slots/4+1 {
			return fmt.Errorf("%d slots", s.w.slotsWritten())
		}
		return nil
	})
	lvm(t, "lvchange", "--refresh", s.a.Domain+"/"+s.a.Volume)
	s.w.moves()
	agree(t, s.a, "-wi-ao----")
	t.Logf("grown from %d to %d bytes under %d writes", before, s.w.board.size.Load(), s.w.board.writes.Load())
}

// agentKilled: nothing happens to the device, its holder and its lease; the next agent finds them.
func (s *scene) agentKilled(t *testing.T) {
	was := s.record()
	s.kill()
	s.w.moves()
	if l := leaseOf(t, was); l.free() || l.version != was.Version {
		t.Errorf("the lease without an agent: %+v", l)
	}
	s.start()
	a := s.awaitAttached()
	if now := s.record(); a.Path != s.a.Path || !a.Since.Equal(s.a.Since) || now.Process != was.Process || now.Version != was.Version {
		t.Errorf("after the restart: %+v, %+v; it was %+v, %+v", a, now, s.a, was)
	}
	s.w.moves()
	agree(t, s.a, "-wi-ao----")
}

// endHolder kills the holder while nobody is there to make another, and waits until the lease is free. From the moment on that it is, no
// write passes.
func (s *scene) endHolder(t *testing.T) record {
	t.Helper()
	was := s.record()
	s.kill()
	s.killProcess(was.Process.PID)
	s.eventually("the lease is free", func() error {
		if l := leaseOf(t, was); !l.free() {
			return fmt.Errorf("%+v", l)
		}
		return nil
	})
	if !frozen(t, s.a) {
		t.Errorf("the lease is free, and the device is not frozen")
	}
	s.w.still()
	return was
}

// holderKilled: the device is frozen before the lease is free, and goes on when there is a new holder.
func (s *scene) holderKilled(t *testing.T) {
	was := s.endHolder(t)
	s.start()
	s.awaitAttached()
	s.w.moves()
	if now := s.record(); now.Version != was.Version+1 || now.Process == was.Process {
		t.Errorf("made again: %+v, it was %+v", now, was)
	}
	agree(t, s.a, "-wi-ao----")
}

// keeperKilled: the agent starts another keeper; every device is frozen before that joins, and goes on afterwards.
func (s *scene) keeperKilled(t *testing.T) {
	was, keeper := s.record(), process("keeper")
	s.killProcess(keeper)
	s.eventually("there is a new keeper and a new holder", func() error {
		if now := process("keeper"); now == 0 || now == keeper {
			return fmt.Errorf("keeper %d, it was %d", now, keeper)
		}
		if now := s.record(); now.Process == was.Process {
			return errors.New("the holder is the same")
		}
		return nil
	})
	s.awaitAttached()
	s.w.moves()
	if l, now := leaseOf(t, was), s.record(); l.free() || l.version != now.Version {
		t.Errorf("lease %+v, record %+v", l, now)
	}
	agree(t, s.a, "-wi-ao----")
}

// takenMeanwhile: another host had the lease while this one did not look. The device fails whatever is done to it, for good; after a detach
// the volume can be had again.
func (s *scene) takenMeanwhile(t *testing.T) {
	was := s.endHolder(t)
	s.takenByAnother(was)
	s.start()
	if e := s.w.awaitError(); e != unix.EIO {
		t.Errorf("the writer got %v", e)
	}
	s.eventually("the volume is broken", func() error {
		if a, err := s.attached(); err != nil || a.State != "broken" {
			return fmt.Errorf("%+v, %w", a, err)
		}
		return nil
	})
	s.must(nil, "volume", "detach", "disk")
	s.must(&s.a, "volume", "attach", "disk", "--mapper", "dm")
	if err := s.w.check(s.a.Path); err != nil {
		t.Error(err)
	}
	s.write(s.w.stride)
	agree(t, s.a, "-wi-ao----")
}

// detach is refused while somebody has the device open, and says who; then nothing is left.
func (s *scene) detach(t *testing.T) {
	was := s.record()
	var no *refusal
	if err := s.try(nil, "volume", "detach", "disk"); !errors.As(err, &no) || no.status != 1 || !strings.Contains(no.said, fmt.Sprintf("process %d", s.w.cmd.Process.Pid)) {
		t.Errorf("detach under process %d: %v", s.w.cmd.Process.Pid, err)
	}
	s.w.moves()
	s.w.end()
	if err := s.w.check(s.a.Path); err != nil {
		t.Error(err)
	}
	s.w.board.rounds[0].Add(5) // the check must be able to fail
	if s.w.check(s.a.Path) == nil {
		t.Error("a lost write is not noticed")
	}
	t.Logf("%d direct writes of 64 KiB to %d places, none lost", s.w.board.writes.Load(), s.w.slotsWritten())
	s.must(nil, "volume", "detach", "disk")
	if l := leaseOf(t, was); !l.free() {
		t.Errorf("the lease after detach: %+v", l)
	}
	if _, err := os.Lstat(s.a.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node: %v", err)
	}
	if got := tool(t, dmsetup, "ls"); got != "No devices found" {
		t.Errorf("dmsetup ls: %s", got)
	}
	if got := fields(t, "lvs", "lv_attr", s.a.Domain+"/"+s.a.Volume); len(got) != 1 || got[0] != "-wi-------" {
		t.Errorf("lvs: %v", got)
	}
	if pid := process("device"); pid != 0 {
		t.Errorf("holder %d is left", pid)
	}
	if got := lvm(t, "vgck", s.a.Domain); got != "" {
		t.Errorf("vgck: %s", got)
	}
}
