package interop

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// direct runs `sanlock direct`, which needs no daemon. Its result is the number at the end of its output.
func direct(t *testing.T, args ...string) string {
	t.Helper()
	testutil.NeedTool(t, "sanlock")
	out, _ := exec.CommandContext(within(t, 4*time.Minute), "sanlock", append([]string{"direct"}, args...)...).CombinedOutput()
	return string(out)
}

// TestDirect_blocks is test 4 of section 7.1: what we write in all modes, as sanlock dumps it, and the lease in the hands
// of one who says that he is us.
func TestDirect_blocks(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	h := ours(t, l, 3)
	dump := func(want string) {
		t.Helper()
		out := direct(t, "dump", fmt.Sprintf("%s:%d:1M", l.path, l.offset(1)), "-f", "2")
		if !strings.Contains(out, want) {
			t.Errorf("dump lacks %q:\n%s", want, out)
		}
	}
	lease := h.acquire(1)
	ts := l.leader(t, 1).Timestamp
	dump(fmt.Sprintf("dblock[0002] mbal 3 bal 3 inp 3 inp2 1 inp3 %d lver 1", ts))
	if out := direct(t, "acquire", "-i", "5", "-g", "1", "-r", l.theirs(1)); !strings.Contains(out, "done -241") {
		t.Errorf("by another host: %s", out)
	}
	h.release(lease)
	sh, err := h.AcquireShared(within(t, 10*time.Second), h.spec(1))
	if err != nil {
		t.Fatal(err)
	}
	dump("inp 3 inp2 1")
	h.release(sh)
	dump("lver 2")
	h.acquire(2)
	if out := direct(t, "acquire", "-i", "3", "-g", "1", "-r", l.theirs(2)); !strings.Contains(out, "done 0") {
		t.Errorf("by our own host and generation: %s", out)
	}
}

// TestDirect_hostIDOfALiveHost is test 6 of section 7.1: a host id of a live host cannot be had under another name, after
// 8N+60 s and not before, by sanlock from us and by us from sanlock.
func TestDirect_hostIDOfALiveHost(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	begin := boot()
	theirs := make(chan string, 1)
	go func() {
		theirs <- direct(t, "acquire_id", "-s", d.lockspace(3), "-o", fmt.Sprint(int(fast/time.Second)), "-e", "other")
	}()
	cfg := hostConfig(l, 5, fast)
	cfg.HostName = "other"
	_, err := tryJoinHost(t, l, cfg)
	if took := boot() - begin; !errors.Is(err, leases.ErrHostIDBusy) || took < 8*fast+watchdog {
		t.Errorf("ours, after %v: %v", took, err)
	}
	if out := <-theirs; !strings.Contains(out, "done -262") {
		t.Errorf("sanlock, after %v: %s", boot()-begin, out)
	}
	if h.Check(0) != nil || !d.joined() {
		t.Errorf("the live hosts suffered: %v, %v", h.Check(0), d.joined())
	}
}

// TestDirect_hostIDOfADeadHost: the id of a dead host of the other kind is taken after 8N+60 s and 2N, with the next
// generation.
func TestDirect_hostIDOfADeadHost(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	d.kill()
	h.crash()
	begin := boot()
	theirs := make(chan error, 1)
	other := startDaemon(t, l, "other")
	go func() { theirs <- other.tryJoin(3, fast) }()
	cfg := hostConfig(l, 5, fast)
	cfg.HostName = "another"
	again := joinHost(t, l, cfg)
	took, least := boot()-begin, 10*fast+watchdog
	t.Logf("ours joined after %v", took)
	if took < least || took > least+5*time.Second || again.Generation() != 2 {
		t.Errorf("ours joined after %v with generation %d", took, again.Generation())
	}
	err := <-theirs
	took = boot() - begin
	t.Logf("sanlock joined after %v", took)
	if gen := l.record(t, 3).OwnerGeneration; err != nil || took < least || gen != 2 {
		t.Errorf("sanlock joined after %v with generation %d: %v", took, gen, err)
	}
}
