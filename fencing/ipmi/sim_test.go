package ipmi

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/clusterlabs"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// sim is a BMC of OpenIPMI's simulator, whose power is a file.
type sim struct {
	dir  string
	port int
	cmd  *exec.Cmd
}

// chassisScript is called with: get NAME..., set NAME VALUE, check NAME VALUE. As long as the file stuck exists orders do nothing.
const chassisScript = `#!/bin/sh
dir=%s
shift # the BMC's address
case "$1" in
get)
	shift
	for name; do
		case $name in
		power) echo "power:$(cat $dir/power)" ;;
		boot) echo "boot:default" ;;
		esac
	done ;;
set)
	shift
	while [ $# -ge 2 ]; do
		echo "$1 $2" >>$dir/orders
		[ "$1" != power ] || [ -e $dir/stuck ] || { echo "$2" >$dir/power.new && mv $dir/power.new $dir/power; }
		shift 2
	done ;;
esac
`

// startSim starts a BMC whose machine is on, and ends it with the test.
func startSim(t *testing.T) *sim {
	t.Helper()
	testutil.NeedTool(t, "ipmi_sim")
	s := &sim{dir: t.TempDir(), port: testutil.FreePort(t)}
	s.write(t, "power", "1\n")
	s.write(t, "chassis", fmt.Sprintf(chassisScript, s.dir))
	if err := os.Chmod(filepath.Join(s.dir, "chassis"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write(t, "lan.conf", fmt.Sprintf(`name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 %d
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "%s/chassis 0x20"
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "%s" "%s" admin 10 none md2 md5 straight
`, s.port, s.dir, testUser, testSecret))
	s.write(t, "emu", "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n")
	// Its life is the test's, however slow the machine.
	s.cmd = exec.Command("ipmi_sim", "-c", filepath.Join(s.dir, "lan.conf"), "-f", filepath.Join(s.dir, "emu"), "-s", s.dir, "-n")
	s.cmd.Stdout, s.cmd.Stderr = os.Stderr, os.Stderr // it says little, and that only when it does not start
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	d := device(t, s.port, nil)
	testutil.Retry(t, 30*time.Second, func() error {
		_, err := d.Status(testutil.Deadline(t))
		return err
	})
	return s
}

func (s *sim) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *sim) power(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "power"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// agents are the two ways to such a BMC: our own and fence_ipmilan.
func agents(t *testing.T, s *sim, secret, powerTimeout string) map[string]fencing.Device {
	t.Helper()
	testutil.NeedTool(t, "fence_ipmilan", "ipmitool")
	catalog, err := clusterlabs.NewCatalog(clusterlabs.DefaultDirs())
	if err != nil {
		t.Fatal(err)
	}
	exec, err := clusterlabs.New(catalog, clusterlabs.Config{
		Agent: "fence_ipmilan", Address: "127.0.0.1", Port: s.port, User: testUser, Secret: fencing.NewSecret(secret),
		Parameters: map[string]string{"lanplus": "1", "cipher": "3", "power_wait": "0", "power_timeout": powerTimeout,
			"shell_timeout": "60", "login_timeout": "60"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if w, err := exec.Warnings(t.Context()); err != nil || len(w) > 0 {
		t.Fatalf("%v, %v", w, err)
	}
	native := device(t, s.port, func(c *Config) { c.Secret = fencing.NewSecret(secret) })
	limits := fencing.Limits{Status: 2 * time.Minute, Order: 2 * time.Minute}
	return map[string]fencing.Device{"native": fencing.Bounded(native, limits), "fence_ipmilan": fencing.Bounded(exec, limits)}
}

func machine(t *testing.T, d fencing.Device, polls int) *fencing.Machine {
	t.Helper()
	timing := fencing.Timing{First: 50 * time.Millisecond, Longest: 500 * time.Millisecond, Polls: polls, Unknowns: 1, OnOrders: 2, Pause: time.Millisecond}
	m, err := fencing.NewMachine("h1", []fencing.Member{{Name: "bmc", Device: d}}, timing)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSim_restart(t *testing.T) {
	t.Parallel()
	s := startSim(t)
	for name, d := range agents(t, s, testSecret, "60") {
		m := machine(t, d, 50)
		r, err := m.Off(t.Context())
		if _, ok := r.Evidence(); err != nil || !ok || r.Skipped || s.power(t) != "0" {
			t.Fatalf("%s: %v, %s", name, err, r)
		}
		if r, err := m.Off(t.Context()); err != nil || !r.Skipped {
			t.Fatalf("%s: already off: %v, %s", name, err, r)
		}
		if r, err := m.On(t.Context()); err != nil || s.power(t) != "1" {
			t.Fatalf("%s: %v, %s", name, err, r)
		}
		if r, err := m.Restart(t.Context()); err != nil || r.OffAt.IsZero() || s.power(t) != "1" {
			t.Fatalf("%s: %v, %s", name, err, r)
		}
		if err := d.Reset(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if h := m.Health(t.Context()); !h.Off || !h.On {
			t.Fatalf("%s: %+v", name, h)
		}
	}
}

// The BMC takes the order, and the machine stays on.
func TestSim_offThatLies(t *testing.T) {
	t.Parallel()
	s := startSim(t)
	s.write(t, "stuck", "")
	for name, d := range agents(t, s, testSecret, "2") {
		r, err := machine(t, d, 2).Off(t.Context())
		if _, ok := r.Evidence(); ok || !errors.Is(err, fencing.ErrNotConfirmed) {
			t.Errorf("%s: evidence %v, %v", name, ok, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(s.dir, "orders")); err != nil || !strings.Contains(string(b), "power 0") {
		t.Errorf("the order did not arrive, so nothing was tested: %s, %v", b, err)
	}
}

func TestSim_wrongSecret(t *testing.T) {
	t.Parallel()
	s := startSim(t)
	for name, d := range agents(t, s, "not the secret", "2") {
		r, err := machine(t, d, 2).Off(t.Context())
		if _, ok := r.Evidence(); ok || !errors.Is(err, fencing.ErrNotConfirmed) || strings.Contains(err.Error()+r.String(), "not the secret") {
			t.Errorf("%s: evidence %v, %v", name, ok, err)
		}
		if name == "native" && !errors.Is(err, fencing.ErrAuth) {
			t.Errorf("native: %v", err)
		}
	}
	if s.power(t) != "1" {
		t.Error("switched off with a wrong secret")
	}
}

// A BMC without power of its own dies with its host, and that its silence is no proof is what leases are for.
func TestSim_deadWithItsHost(t *testing.T) {
	t.Parallel()
	s := startSim(t)
	d := agents(t, s, testSecret, "2")
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for name, dev := range d {
		if name == "native" {
			quick := device(t, s.port, nil)
			quick.waits, quick.shortWaits = quickWaits, quickWaits[:1]
			dev = quick
		}
		if st, err := dev.Status(t.Context()); st != fencing.Unknown || err == nil {
			t.Errorf("%s: %s, %v", name, st, err)
		}
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, 30*time.Second, func() error {
		st, err := d["native"].Status(t.Context())
		if err == nil && st != fencing.On {
			err = errors.New("it is " + string(st) + " with power " + strconv.Quote(s.power(t)))
		}
		return err
	})
}
