package interop

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

//go:embed testdata/*.c
var sources embed.FS

// built holds what was compiled, for all tests of the run.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// needSanlock skips without sanlock and compiles the helpers once.
func needSanlock(t testing.TB) {
	t.Helper()
	testutil.NeedRoot(t)
	testutil.NeedTool(t, "sanlock", "gcc")
	built.once.Do(func() { built.dir, built.err = build() })
	if built.err != nil {
		t.Fatal(built.err)
	}
}

func build() (string, error) {
	dir, err := os.MkdirTemp("", "hfi")
	if err != nil {
		return "", err
	}
	for name, args := range map[string][]string{
		"shim.c":   {"-shared", "-fPIC", "-O1", "-o", "shim.so", "shim.c", "-ldl"},
		"client.c": {"-O1", "-o", "client", "client.c", "-ldl"},
	} {
		b, err := sources.ReadFile("testdata/" + name)
		if err != nil {
			return dir, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return dir, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, "gcc", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			return dir, fmt.Errorf("compiling %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
}

// daemon is a sanlock daemon: one host, joined to the lockspace or not.
type daemon struct {
	t    testing.TB
	lun  *lun
	name string
	dir  string
	hook *hook
	cmd  *exec.Cmd
	dead bool
}

// startDaemon runs a daemon whose host name is name. It ends with the test.
func startDaemon(t testing.TB, l *lun, name string) *daemon {
	t.Helper()
	needSanlock(t)
	d := &daemon{t: t, lun: l, name: name, dir: filepath.Join(l.dir, name)}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if d.hook == nil {
		d.hook = newHook(t, filepath.Join(d.dir, "hook"))
	}
	d.start()
	t.Cleanup(d.cleanup)
	return d
}

// start starts the process, also after a kill.
func (d *daemon) start() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command("sanlock", "daemon", "-D", "-w", "0", "-l", "0", "-h", "0", "-U", "root", "-G", "root", "-e", d.name)
	d.cmd.Env = append(d.env(), "LD_PRELOAD="+filepath.Join(built.dir, "shim.so"), "HOLDFAST_INTEROP_HOOK="+d.hook.path)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	// A group of its own: a daemon in trouble may kill its whole group (a bug of 3.8.5), and it has a helper process.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.dead = false
	testutil.Retry(d.t, 20*time.Second, func() error { _, err := d.client("status"); return err })
}

func (d *daemon) env() []string {
	return append(os.Environ(), "SANLOCK_RUN_DIR="+d.dir, "SANLOCK_PRIVILEGED=0")
}

// client runs `sanlock client`; the error has what it printed.
func (d *daemon) client(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sanlock", append([]string{"client"}, args...)...)
	cmd.Env = d.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("sanlock client %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// lockspace is the lockspace with the given host id in sanlock's words.
func (d *daemon) lockspace(hostID int) string {
	return fmt.Sprintf("%s:%d:%s:0", space, hostID, d.lun.path)
}

// join takes a host id with the given N.
func (d *daemon) join(hostID int, n time.Duration) {
	d.t.Helper()
	if err := d.tryJoin(hostID, n); err != nil {
		d.t.Fatalf("%v\n%s", err, d.log())
	}
}

func (d *daemon) tryJoin(hostID int, n time.Duration) error {
	_, err := d.client("add_lockspace", "-s", d.lockspace(hostID), "-o", strconv.Itoa(int(n/time.Second)))
	return err
}

// leave gives the host id up.
func (d *daemon) leave(hostID int) {
	d.t.Helper()
	if _, err := d.client("rem_lockspace", "-s", d.lockspace(hostID)); err != nil {
		d.t.Fatal(err)
	}
}

// state is how the daemon sees a host, in sanlock's words; "" as long as it has not looked. It lists all but the free.
func (d *daemon) state(host int) string {
	out, err := d.client("gets", "-h", "1")
	if err != nil || !strings.Contains(out, "\nh ") {
		return ""
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 7 && f[0] == "h" && f[1] == strconv.Itoa(host) {
			return f[6]
		}
	}
	return "FREE"
}

// joined says whether the daemon still has the lockspace.
func (d *daemon) joined() bool {
	out, err := d.client("gets")
	return err == nil && strings.Contains(out, "s "+space+":")
}

// kill is the sudden death of the host: the daemon's and, by the broken connection, its users' leases stay on disk.
func (d *daemon) kill() {
	if d.dead {
		return
	}
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	d.reap()
}

// reap waits for a daemon that was or will be killed.
func (d *daemon) reap() {
	_ = d.cmd.Wait()
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) // its helper
	d.dead = true
}

func (d *daemon) cleanup() {
	d.hook.release()
	d.kill()
	if d.t.Failed() {
		d.t.Logf("log of the daemon %s:\n%s", d.name, d.log())
	}
}

// log is the end of the daemon's log.
func (d *daemon) log() string {
	b, _ := os.ReadFile(filepath.Join(d.dir, "log"))
	return string(b[max(0, len(b)-6000):])
}
