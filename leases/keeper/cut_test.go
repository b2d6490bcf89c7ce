package keeper

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// testCut is the test keeper's: a device is a file, which is cut off when the file is there. That it was asked is another file. A third
// names the process that looks after it; whether that was alive at the first time is a fourth.
func testCut(_ context.Context, device string) error {
	if pid, err := os.ReadFile(device + ".pid"); err == nil {
		n, _ := strconv.Atoi(string(pid))
		if err := errors.Join(os.WriteFile(device+".first", strconv.AppendBool(nil, !zombie(n) && unix.Kill(n, 0) == nil), 0o600), os.Remove(device+".pid")); err != nil {
			return err
		}
	}
	if err := os.WriteFile(device+".asked", nil, 0o600); err != nil {
		return err
	}
	_, err := os.Stat(device)
	return err
}

// A lease under a device is not free for others when the process that looks after the device is gone, but when the device is cut off.
func TestKeeper_devicesAreCutOffFirst(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	c := start(t)
	ls, res := specs(lun, 1)
	if _, err := c.Join(ctx, ls); err != nil {
		t.Fatal(err)
	}
	device := filepath.Join(t.TempDir(), "device")
	holder := exec.Command("sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	res.NoWait = true
	res.Holder = &Holder{Name: "looks after a device", Processes: []Process{{PID: holder.Process.Pid}}, Kill: true, Devices: []string{device}}
	if _, err := c.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	testutil.Retry(t, 30*time.Second, func() error { _, err := os.Stat(device + ".asked"); return err })
	res.Holder = nil
	for range 3 { // it is asked for again and again, and must not be given away
		if err := os.Remove(device + ".asked"); err != nil {
			t.Fatal(err)
		}
		testutil.Retry(t, 30*time.Second, func() error { _, err := os.Stat(device + ".asked"); return err })
		if _, err := c.Acquire(ctx, res); !errors.Is(err, leases.ErrHeldHere) {
			t.Fatalf("under a device that is not cut off: %v", err)
		}
	}
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, 30*time.Second, func() error { _, err := c.Acquire(ctx, res); return err })
}

// replaceLease makes the record of a lease another one that is free.
func replaceLease(t *testing.T, lun string, off int64) {
	t.Helper()
	f, err := os.OpenFile(lun, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 512)
	var l leases.Leader
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := l.Decode(b); err != nil {
		t.Fatal(err)
	}
	l.Lver, l.Timestamp = l.Lver+7, 0
	l.Encode(b)
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// A lease that a conversion finds replaced by a new one, which anybody may take: the device is cut off while its holder lives, the holder is killed, and as
// long as the device may write nobody here gets the lease again.
func TestKeeper_lostInConversion(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	c := joined(t, lun, 1)
	_, res := specs(lun, 1)
	device := filepath.Join(t.TempDir(), "device")
	holder := exec.Command("sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(device+".pid", strconv.AppendInt(nil, int64(holder.Process.Pid), 10), 0o600); err != nil {
		t.Fatal(err)
	}
	res.NoWait = true
	res.Holder = &Holder{Name: "looks after a device", Processes: []Process{{PID: holder.Process.Pid}}, Kill: true, Devices: []string{device}}
	if _, err := c.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	replaceLease(t, lun, mib)
	res.Holder = nil
	if _, err := c.Convert(ctx, res, true); !errors.Is(err, leases.ErrChanged) {
		t.Fatalf("converted what was replaced: %v", err)
	}
	if err := holder.Wait(); err == nil || holder.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the holder ended with %v", err)
	}
	if first, err := os.ReadFile(device + ".first"); err != nil || string(first) != "true" {
		t.Errorf("the device was not cut off before its holder was killed: %q, %v", first, err)
	}
	for range 3 {
		_ = os.Remove(device + ".asked")
		testutil.Retry(t, 30*time.Second, func() error { _, err := os.Stat(device + ".asked"); return err })
		if _, err := c.Acquire(ctx, res); !errors.Is(err, leases.ErrHeldHere) {
			t.Fatalf("under a device that is not cut off: %v", err)
		}
	}
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, 30*time.Second, func() error { _, err := c.Acquire(ctx, res); return err })
}

// A lost lockspace has its users until their devices are cut off: the watchdog is not let go before.
func TestTied_overWhenCutOff(t *testing.T) {
	t.Parallel()
	device := filepath.Join(t.TempDir(), "device")
	p := exec.Command("sleep", "1000")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	h := &Holder{Processes: []Process{{PID: p.Process.Pid}}, Kill: true, Devices: []string{device}}
	files, err := h.open()
	if err != nil {
		t.Fatal(err)
	}
	tied, err := newTied(h, files, testCut, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer tied.close()
	tied.press(true)
	_ = p.Wait()
	testutil.Retry(t, 30*time.Second, func() error { _, err := os.Stat(device + ".asked"); return err })
	if tied.over() {
		t.Error("over, and the device is not cut off")
	}
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-tied.gone
}

func TestHolder_devices(t *testing.T) {
	t.Parallel()
	self := []Process{{PID: os.Getpid()}}
	for name, h := range map[string]Holder{
		"no process": {Name: "x", Devices: []string{"d"}}, "no name": {Processes: self, Devices: []string{""}},
		"too many": {Processes: self, Devices: make([]string, maxDevices+1)},
	} {
		if err := h.validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := &Holder{Processes: self, Devices: []string{"d"}}
	files, err := h.open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newTied(h, files, nil, quiet()); !errors.Is(err, ErrInvalid) {
		t.Errorf("a keeper that cannot cut off: %v", err)
	}
}
