package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestParseSpec(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"auto": "auto", "none": "none", "device": "device:/dev/watchdog", "device:/dev/watchdog1": "device:/dev/watchdog1",
		"wdmd": "wdmd:/run/wdmd/wdmd.sock", "wdmd:/x/y": "wdmd:/x/y",
		"": "", "auto:/x": "", "none:/x": "", "device:dev": "", "softdog": "", "wdmd:/" + strings.Repeat("x", 200): "",
	} {
		got, err := ParseSpec(in)
		if want == "" && !errors.Is(err, ErrSpec) || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

// fakeWdmd answers like wdmd and remembers what each client has in force.
type fakeWdmd struct {
	fire uint32
	ln   net.Listener
	wg   sync.WaitGroup

	mu      sync.Mutex // guards all below
	entries []*wdmdEntry
}

type wdmdEntry struct {
	name     string
	refcount bool
	expire   uint64
	lives    int
	gone     bool
}

func startWdmd(t *testing.T, fire uint32) (*fakeWdmd, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wdmd.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeWdmd{fire: fire, ln: ln}
	f.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); f.wg.Wait() })
	return f, path
}

func (f *fakeWdmd) serve(conn net.Conn) {
	defer conn.Close()
	e := &wdmdEntry{}
	f.mu.Lock()
	f.entries = append(f.entries, e)
	f.mu.Unlock()
	b := make([]byte, frameBytes)
	for {
		if _, err := io.ReadFull(conn, b); err != nil {
			f.mu.Lock()
			e.gone = true
			f.mu.Unlock()
			return
		}
		var m frame
		_ = m.decode(b)
		f.mu.Lock()
		switch m.cmd {
		case cmdRegister:
			e.name = m.name
		case cmdRefcountSet, cmdRefcountClear:
			e.refcount = m.cmd == cmdRefcountSet
		case cmdTestLive:
			e.expire, e.lives = m.expire, e.lives+1
		case cmdStatus:
			_, _ = conn.Write((&frame{cmd: cmdStatus, testInterval: 10, fireTimeout: f.fire}).encode())
		}
		f.mu.Unlock()
	}
}

// registered is the entry of a name.
func (f *fakeWdmd) registered(name string) (wdmdEntry, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.entries {
		if e.name == name {
			return *e, true
		}
	}
	return wdmdEntry{}, false
}

func wdmdDog(t *testing.T, path string) *Watchdog {
	t.Helper()
	w := New(Config{Spec: Spec{Kind: Wdmd, Path: path}, Log: quiet()})
	if p, err := w.Choose(testutil.Deadline(t), w60); err != nil || !p.Protected() {
		t.Fatalf("%+v, %v", p, err)
	}
	return w
}

func TestWdmd_life(t *testing.T) {
	t.Parallel()
	f, path := startWdmd(t, 60)
	w := wdmdDog(t, path)
	e, boot := w.Entry("holdfast_x:1"), clock.System{}
	if err := e.Use(testutil.Deadline(t), boot.Boot()+n80); err != nil {
		t.Fatal(err)
	}
	want := func(what string, ok func(wdmdEntry) bool) {
		t.Helper()
		testutil.Retry(t, 10*time.Second, func() error {
			if got, found := f.registered("holdfast_x:1"); !found || !ok(got) {
				return fmt.Errorf("%s: %+v", what, got)
			}
			return nil
		})
	}
	near := func(at uint64, in time.Duration) bool {
		d := time.Duration(at)*time.Second - monotonic() - in
		return d > -3*time.Second && d <= 0
	}
	want("armed", func(x wdmdEntry) bool { return x.refcount && near(x.expire, n80) })
	e.Renewed(boot.Boot() + 2*n80)
	want("renewed", func(x wdmdEntry) bool { return near(x.expire, 2*n80) })
	e.Done()
	want("ended", func(x wdmdEntry) bool { return !x.refcount && x.expire == 0 && x.gone })
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestWdmd_keeperEnds: an entry that is used stays as it was when its client goes away.
func TestWdmd_keeperEnds(t *testing.T) {
	t.Parallel()
	f, path := startWdmd(t, 60)
	w := wdmdDog(t, path)
	e := w.Entry("holdfast_x:1")
	if err := e.Use(testutil.Deadline(t), clock.System{}.Boot()+n80); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("closed with users without a word")
	}
	_ = e.conn.Close() // the end of the process
	testutil.Retry(t, 10*time.Second, func() error {
		if got, _ := f.registered("holdfast_x:1"); !got.gone || got.expire == 0 || !got.refcount {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

func TestWdmd_anotherTime(t *testing.T) {
	t.Parallel()
	_, path := startWdmd(t, 60)
	w := New(Config{Spec: Spec{Kind: Wdmd, Path: path}, Log: quiet()})
	if _, err := w.Choose(testutil.Deadline(t), 10*time.Second); !errors.Is(err, ErrUnusable) {
		t.Errorf("fires after 60 s, wanted 10 s: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestWdmd_real: the real daemon on a device that this test plays. It pets while we renew, stops within its interval
// before the expiry, and goes on when the user is gone.
func TestWdmd_real(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 30 s")
	}
	testutil.NeedTool(t, "gcc")
	testutil.NeedTool(t, "wdmd")
	testutil.NeedTool(t, "unshare")
	log, socket := playDevice(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	testutil.Retry(t, 10*time.Second, func() error { return dials(socket) })
	w := wdmdDog(t, socket)
	e := w.Entry("holdfast_real:1")
	expiry := clock.System{}.Boot() + 24*time.Second
	if err := e.Use(ctx, expiry); err != nil {
		t.Fatal(err)
	}
	// It tests each 10 s: the test that finds less than an interval left closes the device without the magic.
	testutil.Retry(t, 40*time.Second, func() error {
		if clock.System.Boot(clock.System{}) < expiry+2*time.Second {
			return errors.New("waiting for the expiry")
		}
		return nil
	})
	events := readEvents(t, log)
	last := events[len(events)-1]
	if last.what == "pet" || strings.Contains(fmt.Sprint(events), "magic") || last.at > expiry {
		t.Errorf("at the expiry (%v): %v", expiry, events)
	}
	e.Done()
	testutil.Retry(t, 10*time.Second, func() error {
		if now := readEvents(t, log); len(now) == len(events) || now[len(now)-1].what != "pet" {
			return fmt.Errorf("not petted after the user went: %v", now)
		}
		return nil
	})
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func dials(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	return c.Close()
}

// playDevice starts wdmd with a device of ours and returns the device's log and wdmd's socket. It has a /run and a shared memory of its own: an agent of
// another test, or of this machine, must not become its client, and its place there is fixed.
func playDevice(t *testing.T) (log, socket string) {
	t.Helper()
	dir := t.TempDir()
	shim, dog, log := filepath.Join(dir, "dog.so"), filepath.Join(dir, "dog"), filepath.Join(dir, "log")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", shim, "testdata/dog.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	for _, f := range []string{dog, log} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", `mount -t tmpfs none /dev/shm && mount -t tmpfs none /run && mkdir /run/wdmd && exec "$@"`, "sh",
		"wdmd", "-D", "-S", "0", "-s", dir, "-w", dog)
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+shim, "DOG_PATH="+dog, "DOG_LOG="+log)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endWdmd(t, cmd) })
	return log, fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, DefaultWdmd)
}

// endWdmd asks again and again: wdmd forgets a SIGTERM that comes while it has clients, and it may read the signal before the end of the last
// client's connection.
func endWdmd(t *testing.T, cmd *exec.Cmd) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	ask := time.NewTicker(time.Second)
	defer ask.Stop()
	late := time.After(30 * time.Second) // it looks at its clients each 10 s
	for {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			return
		case <-ask.C:
		case <-late:
			t.Error("wdmd does not end")
			_ = cmd.Process.Kill()
			<-ended
			return
		}
	}
}

// dogEvent is a line of the device's log.
type dogEvent struct {
	at   time.Duration // boot time
	what string
}

func readEvents(t *testing.T, path string) []dogEvent {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []dogEvent
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var at float64
		var e dogEvent
		var n int
		if _, err := fmt.Sscan(line, &at, &e.what, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		e.at = time.Duration(at * float64(time.Second))
		all = append(all, e)
	}
	return all
}

func TestFrame_roundTrip(t *testing.T) {
	t.Parallel()
	f := frame{1, 2, 3, 4, 5, 6, 7, 8, 9, "name"}
	b := f.encode()
	var g frame
	if err := g.decode(b); err != nil || g != f || len(b) != 176 || b[4] != 2 || b[40] != 9 || b[48] != 'n' {
		t.Errorf("%+v, %v, %x", g, err, b)
	}
	if len((&frame{name: strings.Repeat("x", 300)}).encode()) != frameBytes {
		t.Error("a long name overflows")
	}
}

func FuzzFrame(f *testing.F) {
	f.Add((&frame{cmd: cmdStatus, fireTimeout: 60, name: "x"}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m frame
		if m.decode(b) != nil {
			return
		}
		var again frame
		if err := again.decode(m.encode()); err != nil || again.cmd != m.cmd || again.expire != m.expire {
			t.Fatalf("%+v, %+v, %v", m, again, err)
		}
	})
}
