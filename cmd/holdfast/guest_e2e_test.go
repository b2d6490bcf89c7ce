package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/internal/vmtest"
)

// The tests of this file are `make guest-test`: a real guest on a thin volume. They take minutes, and a kernel that is fetched, so
// they run only when HOLDFAST_GUEST_MIB says how much the guest is to write.

// guestSeed is what the contents of the guest's disk follow from.
const guestSeed = "20261122"

// guestBuild has what `make guest-test` made, seen from this folder.
const guestBuild = "../../bin"

// guestSize is how much the guest writes, in MiB.
func guestSize(t *testing.T) int64 {
	t.Helper()
	s := os.Getenv("HOLDFAST_GUEST_MIB")
	if s == "" {
		t.Skip("make guest-test runs it: a guest that writes gigabytes")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 512 || n%64 != 0 {
		t.Fatalf("HOLDFAST_GUEST_MIB=%s: want 512 or more, in steps of 64", s)
	}
	return n
}

// guestMachine is the kernel and what the guest runs.
func guestMachine(t *testing.T) vmtest.Guest {
	t.Helper()
	debian, err := vmtest.FetchDebian(deadline(t, 10*time.Minute), filepath.Join(guestBuild, "vmtest", "debian"))
	if errors.Is(err, vmtest.ErrUnavailable) {
		t.Skipf("NOT RUN, no guest wrote to a thin volume: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	scribe, err := filepath.Abs(filepath.Join(guestBuild, "scribe"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(scribe); err != nil {
		t.Fatalf("run make guest-test, which builds it: %v", err)
	}
	return vmtest.Guest{Debian: debian, Modules: []string{"virtio_pci", "virtio_blk"}, Files: map[string]string{"/scribe": scribe}, MemoryMB: 256}
}

// guest is a machine that runs and what is known of it.
type guest struct {
	*guestMonitor
	own   string // the monitor for Holdfast alone
	t     *testing.T
	ended chan struct{} // closed when QEMU has exited
	res   vmtest.Result
	err   error

	mu   sync.Mutex // guards said
	said bytes.Buffer
}

// boot starts a guest on an attached volume, with the arguments of the answer and errors handled as libvirt has them handled.
func boot(t *testing.T, a api.Attachment, script string) *guest {
	t.Helper()
	g := &guest{t: t, ended: make(chan struct{})}
	machine := guestMachine(t)
	machine.Script = script
	dir := shortDir(t)
	socket := filepath.Join(dir, "qmp")
	g.own = filepath.Join(dir, "own")
	machine.Args = []string{"-qmp", "unix:" + socket + ",server=on,wait=off", "-qmp", "unix:" + g.own + ",server=on,wait=off"}
	node := ""
	for _, n := range a.BlockDev {
		b, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		machine.Args = append(machine.Args, "-blockdev", string(b))
		node = fmt.Sprint(n["node-name"])
	}
	machine.Args = append(machine.Args, "-device", "virtio-blk-pci,drive="+node+",werror=stop,rerror=stop")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(g.ended)
		g.res, g.err = machine.Run(ctx, g)
	}()
	t.Cleanup(func() { cancel(); <-g.ended })
	g.guestMonitor = listenTo(t, socket)
	return g
}

// Write implements io.Writer: it keeps what the guest says.
func (g *guest) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.said.Write(p)
}

var guestWrote = regexp.MustCompile(`scribe: wrote (\d+) of \d+ MiB`)

// progress is how much the guest says to have written, in MiB.
func (g *guest) progress() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := guestWrote.FindAllSubmatch(g.said.Bytes(), -1)
	if len(all) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(all[len(all)-1][1]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// patience bounds the wait for a guest; emulation on a busy machine takes its time.
const patience = 30 * time.Minute

// await waits until something is so, and fails at once when the guest has ended before.
func (g *guest) await(what string, f func() error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	var ended error
	err := poll(ctx, what, func() error {
		err := f()
		select {
		case <-g.ended:
			if err != nil {
				ended = fmt.Errorf("the guest has ended before %s: %w, %v", what, err, g.err)
			}
			return nil
		default:
			return err
		}
	})
	if err := errors.Join(err, ended); err != nil {
		g.t.Fatalf("%v; it said:\n%s", err, g.tail())
	}
}

// wrote waits until so much is written, without a pause or an error.
func (g *guest) wrote(mib int64) {
	g.t.Helper()
	g.await(fmt.Sprintf("the guest has written %d MiB", mib), func() error {
		if bad := unwanted(g.all()); len(bad) > 0 {
			g.t.Fatalf("after %d MiB, with space left: %+v", g.progress(), bad)
		}
		if n := g.progress(); n < mib {
			return fmt.Errorf("%d MiB", n)
		}
		return nil
	})
}

func (g *guest) tail() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.said.Bytes()
	return string(b[max(0, len(b)-3000):])
}

// end waits for the guest's ordered end.
func (g *guest) end() {
	g.t.Helper()
	g.await("it has ended", func() error {
		select {
		case <-g.ended:
			return nil
		default:
			return fmt.Errorf("%d MiB, events %+v", g.progress(), g.all())
		}
	})
	if g.err != nil || g.res.Status != 0 || !strings.Contains(g.res.Console, "scribe: verified") {
		g.t.Fatalf("the guest ended with status %d, %v:\n%s", g.res.Status, g.err, g.tail())
	}
	lines := strings.Split(strings.TrimSpace(g.res.Console), "\n")
	for _, l := range lines[max(0, len(lines)-4):] {
		g.t.Log(strings.TrimSpace(l))
	}
}

// scribeScript has the guest write its disk, or look at it.
func scribeScript(mib int64, more string) string {
	return fmt.Sprintf("exec /scribe -disk /dev/vda -mib %d -seed %s %s\n", mib, guestSeed, more)
}

// A guest writes and verifies gigabytes while its volume grows in small steps, and the SPM is killed, fenced, moved, moved to the
// guest's own host and killed there. It sees no error and is never paused. Then the domain is full: the guest is paused and
// everybody can see why; a LUN is added, the guest goes on, and all of its data is right, also for a guest on another host.
func TestGuest_growsAndFillsTheDomain(t *testing.T) {
	size := guestSize(t)
	testutil.NeedTool(t, vmtest.QEMU, "qemu-img", "lvm", "losetup")
	guestMachine(t) // fetched before anything is timed
	p := startPool(t, "--chunk", "256MiB", "--lun-size", strconv.FormatInt(size<<20+16*gib, 10))
	spm := mustSPM(t, p)
	host := p.file().Hosts[p.other(spm.Host)].Name
	v, room := thinWithRoom(t, p, size)
	a := mustAttach(t, p, host, api.VolumeAttach{}, v.ID)

	g := boot(t, a, scribeScript(size, "-rate 64"))
	mustAttach(t, p, host, api.VolumeAttach{QMP: g.own}, v.ID)
	marks := guestFaults(p, host)
	for i, f := range marks {
		g.wrote(room >> 20 * 3 / 4 * int64(i+1) / int64(len(marks)+1)) // all well before the domain is full
		f.do(t)
		t.Logf("%s at %d MiB", f.name, g.progress())
		if err := p.awaitUp(deadline(t, 3*time.Minute)); err != nil {
			t.Fatalf("after %s: %v", f.name, err)
		}
		awaitAttached(t, p, host, v.ID)
	}
	g.fillsUp(p, host, v.ID)
	lun := furtherLUN(t, p, "second", size<<20+4*gib)
	if status, _, stderr := cli(t, "domain", "extend", "master", "--lun", lun, "--address", p.file().Hosts[0].HTTP); status != exitOK {
		t.Fatalf("adding a LUN: %d, %s", status, stderr)
	}
	awaitSpace(t, p, host, v.ID)
	g.end() // by QMP the guest is told to go on
	if bad := unwanted(resumed(g.all())); len(bad) > 0 {
		t.Errorf("with a LUN added there was still %+v", bad)
	}
	logAttachment(t, p, host)
	mustDetach(t, p, host, v.ID)
	verifyGuestDisk(t, p, spm.Host, v.ID, size)
	judgeLUNs(t, p, "lun", "second")
}

// The same writer at full speed with the default chunk, which is 2.5 GiB, and the SPM killed once.
func TestGuest_defaultChunk(t *testing.T) {
	size := max(guestSize(t), 3<<10) // two extensions
	testutil.NeedTool(t, vmtest.QEMU, "qemu-img", "lvm")
	guestMachine(t)
	p := startPool(t)
	spm := mustSPM(t, p)
	host := p.file().Hosts[p.other(spm.Host)].Name
	v, err := p.client(0).CreateVolume(deadline(t, time.Minute), api.VolumeCreate{Name: "guest", Size: 2 * size << 20}, "")
	if err != nil {
		t.Fatal(err)
	}
	a := mustAttach(t, p, host, api.VolumeAttach{}, v.ID)
	g := boot(t, a, scribeScript(size, ""))
	g.wrote(256)
	if _, err := p.kill(spm.Host); err != nil {
		t.Fatal(err)
	}
	g.wrote(size)
	g.end()
	if bad := unwanted(g.all()); len(bad) > 0 {
		t.Errorf("%+v", bad)
	}
	if at := logAttachment(t, p, host); at.WritesRefused != 0 || at.Allocated <= v.Allocated {
		t.Errorf("%+v", at)
	}
	mustDetach(t, p, host, v.ID)
	if err := p.awaitUp(deadline(t, 3*time.Minute)); err != nil {
		t.Fatal(err)
	}
	checkImage(t, p, spm.Host, v.ID)
	judgeLUN(t, p)
}

// thinWithRoom makes the guest's volume in a domain that has space for two thirds of it, and returns how much that is.
func thinWithRoom(t *testing.T, p *devProcess, size int64) (v api.VolumeCreated, room int64) {
	t.Helper()
	ctx := deadline(t, time.Minute)
	v, err := p.client(0).CreateVolume(ctx, api.VolumeCreate{Name: "guest", Size: size << 20, InitialSize: 128 << 20}, "")
	if err != nil {
		t.Fatal(err)
	}
	none, percent := int64(0), 1
	d, err := p.client(0).SetDomain(ctx, v.Domain, api.DomainSet{CriticalFree: &none, WarnPercent: &percent})
	if err != nil {
		t.Fatal(err)
	}
	const extent = 128 << 20
	room = ((size<<20)*2/3/extent | 1) * extent // an odd number: the last chunk, of two, does not fit
	if _, err := p.client(0).CreateVolume(ctx, api.VolumeCreate{Name: "ballast", Size: d.Free - room, Format: api.FormatRaw}, ""); err != nil {
		t.Fatal(err)
	}
	return v, room
}

// guestFault is something that happens to the pool while the guest writes.
type guestFault struct {
	name string
	do   func(*testing.T)
}

// guestFaults are in an order in which each finds the pool as it needs it.
func guestFaults(p *devProcess, host string) []guestFault {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	move := func(t *testing.T, to string) {
		t.Helper()
		_, err := p.client(0).MoveSPM(deadline(t, time.Minute), api.SPMMove{To: to, Reason: "guest-test"})
		must(t, err)
	}
	return []guestFault{
		{"SIGKILL of the SPM's agent", func(t *testing.T) { must(t, p.killAgent(mustSPM(t, p).Host)) }},
		{"the SPM moved to another host than the guest's", func(t *testing.T) { move(t, p.file().Hosts[p.other(host)].Name) }},
		{"SIGKILL of the SPM's agent and keeper", func(t *testing.T) { _, err := p.kill(mustSPM(t, p).Host); must(t, err) }},
		{"the SPM moved to the guest's own host", func(t *testing.T) { move(t, host) }},
		{"SIGKILL of the agent of the guest's host, the SPM", func(t *testing.T) { must(t, p.killAgent(host)) }},
	}
}

// fillsUp waits until the guest is paused because the domain is full, which everybody must be able to see.
func (g *guest) fillsUp(p *devProcess, host, volume string) {
	t := g.t
	t.Helper()
	g.await("the guest is paused", func() error {
		if !paused(g.all()) {
			return fmt.Errorf("%d MiB, events %+v", g.progress(), g.all())
		}
		return nil
	})
	if bad := unwanted(g.all()); slices.ContainsFunc(bad, func(e guestEvent) bool { return e.Event == "BLOCK_IO_ERROR" && !e.Data.NoSpace }) {
		t.Errorf("another error than a full domain: %+v", bad)
	}
	ctx := deadline(t, 2*time.Minute)
	d, _, err := p.client(0).Domain(ctx, "master", client.Read{Consistent: true})
	if err != nil || d.Free >= 256<<20 {
		t.Errorf("the guest was paused with %d bytes free, a chunk is less: %v", d.Free, err)
	}
	t.Logf("the domain is full, the guest is paused at %d MiB", g.progress())
	for _, what := range []struct{ where, want string }{{"status", "out of space: "}, {"metric", "\nholdfast_attached_waiting 1\n"},
		{"event", "volume.waiting"}, {"event", "domain.out_of_space"}} {
		if err := poll(ctx, what.want+" is shown", func() error { return shows(ctx, p, host, what.where, what.want) }); err != nil {
			t.Error(err)
		}
	}
	if err := poll(ctx, "the volume waits", func() error {
		l, err := p.client(p.index(host)).Attachments(ctx, host)
		if err == nil && (l.Attachments[0].WaitingFor == "" || l.Attachments[0].Volume != volume || l.Attachments[0].WritesRefused == 0) {
			err = fmt.Errorf("%+v", l)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// shows looks for a text in one of the places where a person would look.
func shows(ctx context.Context, p *devProcess, host, where, want string) error {
	base := p.file().Hosts[p.index(host)].HTTP
	text := ""
	switch where {
	case "status":
		out, err := program("status", "--address", base).Output()
		if err != nil {
			return err
		}
		text = string(out)
	case "metric":
		m, err := scrape(ctx, base)
		if err != nil {
			return err
		}
		text = m
	case "event":
		events, _, err := p.client(0).Events(ctx, 0, 200, client.Read{})
		if err != nil {
			return err
		}
		for _, e := range events {
			text += e.Kind + "\n"
		}
	}
	if !strings.Contains(text, want) {
		return fmt.Errorf("%s has no %q: %s", where, want, text)
	}
	return nil
}

// awaitSpace waits until the volume has what it asked for.
func awaitSpace(t *testing.T, p *devProcess, host, volume string) {
	t.Helper()
	ctx := deadline(t, 2*time.Minute)
	if err := poll(ctx, "the volume has grown", func() error {
		l, err := p.client(p.index(host)).Attachments(ctx, host)
		if err == nil && (l.Attachments[0].Volume != volume || l.Attachments[0].WaitingFor != "") {
			err = fmt.Errorf("%+v", l)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// logAttachment says how the volume grew.
func logAttachment(t *testing.T, p *devProcess, host string) api.Attachment {
	t.Helper()
	l, err := p.client(p.index(host)).Attachments(deadline(t, time.Minute), host)
	if err != nil || len(l.Attachments) != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	a := l.Attachments[0]
	t.Logf("%s allocated, %s written, %d writes waited for space, %d of them were refused", formatSize(a.Allocated), formatSize(a.Written),
		a.WritesWaited, a.WritesRefused)
	return a
}

func mustDetach(t *testing.T, p *devProcess, host, volume string) {
	t.Helper()
	if _, err := p.client(0).DetachVolume(deadline(t, time.Minute), volume, host, api.VolumeDetach{}); err != nil {
		t.Fatal(err)
	}
}

// verifyGuestDisk has a second guest, on another host, look at everything that the first one wrote; then qemu-img looks at the image.
func verifyGuestDisk(t *testing.T, p *devProcess, host, volume string, size int64) {
	t.Helper()
	g := boot(t, mustAttach(t, p, host, api.VolumeAttach{}, volume), scribeScript(size, "-verify"))
	g.end()
	if bad := unwanted(g.all()); len(bad) > 0 {
		t.Errorf("%+v", bad)
	}
	mustDetach(t, p, host, volume)
	checkImage(t, p, host, volume)
}

// checkImage has qemu-img look at a volume that nobody uses.
func checkImage(t *testing.T, p *devProcess, host, volume string) {
	t.Helper()
	a := mustAttach(t, p, host, api.VolumeAttach{ReadOnly: true}, volume)
	t.Log(strings.TrimSpace(testutil.Run(t, "qemu-img", "check", a.URI)))
	mustDetach(t, p, host, volume)
}
