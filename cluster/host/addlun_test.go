package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

func domainOf(t *testing.T, h *Host, id string) fsm.Domain {
	t.Helper()
	d, ok := h.Node().View().Domains.Get(id)
	if !ok {
		t.Fatalf("the mirror has no domain %s", id)
	}
	return d
}

// A domain grows while the host serves; the next SPM, a reader and a check see the LUN, and so does a host whose mirror is behind.
func TestHost_ExtendDomain(t *testing.T) {
	t.Parallel()
	h, m := founded(t)
	before := domainOf(t, h, m.Domain)
	lun := testutil.SparseFile(t, "further", lunSize)
	rep, err := h.ExtendDomain(testutil.Deadline(t), ExtendRequest{Domain: before, LUN: lun})
	if err != nil || !rep.Mirrored || len(rep.Info.LUNs) != 2 || rep.Info.Free <= before.Free {
		t.Fatalf("%+v, %v", rep, err)
	}
	after := domainOf(t, h, m.Domain)
	if !slices.Equal(after.LUNs, append(slices.Clone(before.LUNs), lun)) || after.Size <= before.Size {
		t.Errorf("the mirror says %+v", after)
	}
	createVolume(t, h, "", "a")
	if _, err := h.ExtendDomain(testutil.Deadline(t), ExtendRequest{Domain: after, LUN: lun}); !errors.Is(err, domain.ErrMember) {
		t.Errorf("once more: %v", err)
	}
	if _, _, err := h.CreateDomain(testutil.Deadline(t), DomainRequest{Name: "b", Devices: []string{alias(t, lun)}, Force: h.runtime().domains[m.Domain].physical()[1]}); !errors.Is(err, ErrOwnLUN) {
		t.Errorf("a domain on a further LUN of another: %v", err)
	}
	epoch := h.Role().Status().Epoch
	if _, err := h.Role().Stop(testutil.Deadline(t), spm.StopRequest{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	serves(t, h, epoch)
	createVolume(t, h, "", "b")
	if found, err := h.CheckDomain(testutil.Deadline(t), after); err != nil || len(found) > 0 {
		t.Errorf("check: %v %v", found, err)
	}
	if found, err := h.CheckDomain(testutil.Deadline(t), before); err != nil || len(found) > 0 {
		t.Errorf("check with the first LUN only: %v %v", found, err)
	}
	l, err := openDomain(testutil.Deadline(t), before, leases.Dev, h.cfg.finder(leases.Dev), h.cfg.Log)
	if err != nil {
		t.Fatalf("with the first LUN only: %v", err)
	}
	if disk, err := l.read(testutil.Deadline(t)); err != nil || len(l.list()) != 2 || len(disk.Volumes()) != 2 {
		t.Errorf("%d LUNs, %v", len(l.list()), err)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

// alias is another path to a file.
func alias(t *testing.T, file string) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), "alias")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func TestHost_ExtendDomain_refused(t *testing.T) {
	t.Parallel()
	h, m := founded(t)
	master := domainOf(t, h, m.Domain)
	other, _, err := h.CreateDomain(testutil.Deadline(t), DomainRequest{Name: "more", Devices: []string{testutil.SparseFile(t, "more", lunSize)}})
	if err != nil {
		t.Fatal(err)
	}
	createVolume(t, h, other.ID, "a")
	hidden, busy := testutil.SparseFile(t, "hidden", lunSize), testutil.SparseFile(t, "busy", lunSize)
	l, _ := h.runtime().domain(m.Domain)
	l.mu.Lock()
	l.joining = append(l.joining, joiningLUN{Device: blockdev.NewMem(1<<20, 512).Rename(busy), active: true})
	l.mu.Unlock()
	for name, c := range map[string]struct {
		d    fsm.Domain
		lun  string
		want error
	}{
		"another domain's":  {master, other.LUNs[0], ErrOwnLUN},
		"the domain's own":  {master, master.LUNs[0], domain.ErrMember},
		"being added":       {other, alias(t, busy), ErrLUNBusy},
		"no such file":      {master, hidden + "x", blockdev.ErrGone},
		"too small":         {master, testutil.SparseFile(t, "small", 100<<20), domain.ErrTooSmall},
		"no such domain":    {fsm.Domain{ID: "0b9a7f52-3c53-4b4c-9c8e-6a5f2f0e9d11"}, hidden, ErrNotOpen},
		"what another held": {master, foreign(t), domain.ErrInUse},
	} {
		if _, err := h.ExtendDomain(testutil.Deadline(t), ExtendRequest{Domain: c.d, LUN: c.lun}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if got := domainOf(t, h, m.Domain); len(got.LUNs) != 1 {
		t.Errorf("the mirror says %v", got.LUNs)
	}
	l.mu.Lock()
	l.joining = nil
	l.mu.Unlock()
	if n := len(l.all()); n != 1 {
		t.Errorf("%d devices are open", n)
	}
}

// foreign is a LUN with a file system.
func foreign(t *testing.T) string {
	t.Helper()
	file := testutil.SparseFile(t, "foreign", lunSize)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("XFSB\x00\x00\x10\x00"); err != nil {
		t.Fatal(err)
	}
	return file
}

// network answers for hosts by name.
type network map[string]func(SeeLUNRequest) (SeeLUNReply, error)

func (n network) Call(_ context.Context, host, _ string, in, out any) error {
	rep, err := n[host](in.(SeeLUNRequest))
	*out.(*SeeLUNReply) = rep
	return err
}

func TestAskAll(t *testing.T) {
	t.Parallel()
	sees := func(r SeeLUNRequest) (SeeLUNReply, error) { return SeeLUNReply{Path: r.Path}, nil }
	n := network{"h1": sees, "h2": sees,
		"h3": func(SeeLUNRequest) (SeeLUNReply, error) { return SeeLUNReply{Error: "no such device"}, nil },
		"h4": func(SeeLUNRequest) (SeeLUNReply, error) { return SeeLUNReply{}, errors.New("timeout") }}
	req := SeeLUNRequest{Path: "/dev/x"}
	if err := askAll(t.Context(), n, []string{"h1", "h2"}, req); err != nil {
		t.Error(err)
	}
	err := askAll(t.Context(), n, []string{"h1", "h2", "h3", "h4"}, req)
	var unseen *UnseenError
	if !errors.As(err, &unseen) || !errors.Is(err, ErrLUNUnseen) || len(unseen.Hosts) != 2 ||
		!strings.Contains(err.Error(), "h3 (no such device), h4 (does not answer: timeout)") {
		t.Errorf("%v", err)
	}
}

// TestConfig_see: a host finds a LUN at the path, and with a label wherever its configuration lets it look.
func TestConfig_see(t *testing.T) {
	t.Parallel()
	ctx := testutil.Deadline(t)
	dir := t.TempDir()
	here, elsewhere := filepath.Join(dir, "here.img"), filepath.Join(dir, "elsewhere.img")
	for _, p := range []string{here, elsewhere} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(p, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	dev, err := blockdev.Open(ctx, elsewhere, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dev.Close() }()
	g, err := lvm2.Create(ctx, lvm2.CreateOptions{Name: "vg", ExtentSize: 1 << 20, MetadataSize: 1 << 20, Devices: []blockdev.Device{dev}, Now: time.Unix(1, 0)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pv := g.VG().PVs[0].ID
	c := Config{Devices: []string{filepath.Join(dir, "*.img")}}
	good := SeeLUNRequest{Path: here, Size: 1 << 30, SectorSize: dev.SectorSize(), Profile: "dev"}
	with := func(change func(*SeeLUNRequest)) SeeLUNRequest { r := good; change(&r); return r }
	for name, q := range map[string]struct {
		req  SeeLUNRequest
		path string
		want string
	}{
		"by path":         {good, here, ""},
		"by label":        {with(func(r *SeeLUNRequest) { r.PV = pv }), elsewhere, ""},
		"another size":    {with(func(r *SeeLUNRequest) { r.Size = 2 << 30 }), "", "another LUN"},
		"other sectors":   {with(func(r *SeeLUNRequest) { r.SectorSize = 4096 }), "", "another LUN"},
		"another label":   {with(func(r *SeeLUNRequest) { r.PV = lvm2.NewID() }), "", "not to be found"},
		"not allowed":     {with(func(r *SeeLUNRequest) { r.Path = "/dev/null" }), "", "allow-list"},
		"nothing there":   {with(func(r *SeeLUNRequest) { r.Path = filepath.Join(dir, "none.img") }), "", "no such file"},
		"unknown profile": {with(func(r *SeeLUNRequest) { r.Profile = "x" }), "", "profile"},
	} {
		path, err := c.see(ctx, q.req)
		switch {
		case q.want == "" && (err != nil || path != q.path):
			t.Errorf("%s: %q, %v", name, path, err)
		case q.want != "" && (err == nil || !strings.Contains(err.Error(), q.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.seeLUN(ctx, "h2", []byte("{")); !errors.Is(err, fsm.ErrInvalid) {
		t.Errorf("no request: %v", err)
	}
	if rep, err := c.seeLUN(ctx, "h2", []byte(`{"profile":"dev","path":"/x"}`)); err != nil || !strings.Contains(fmt.Sprint(rep), "allow-list") {
		t.Errorf("%v %v", rep, err)
	}
}

// TestLuns_settle: a device that failed to join is closed, one with calls out is kept and counted until they are back.
func TestLuns_settle(t *testing.T) {
	t.Parallel()
	l := &luns{devs: []blockdev.Device{blockdev.NewMem(1<<20, 512).Rename("first")}}
	join := func(dev blockdev.Device) blockdev.Device {
		l.joining = append(l.joining, joiningLUN{Device: dev, active: true})
		return dev
	}
	failed := errors.New("refused")
	if err := l.settle(join(blockdev.NewMem(1<<20, 512).Rename("a")), failed); err != nil || len(l.all()) != 1 {
		t.Errorf("closed: %v, %d open", err, len(l.all()))
	}
	slow := faulty.New(blockdev.NewMem(1<<20, 512).Rename("b"))
	slow.Inject(faulty.Fault{Ops: faulty.Write, Count: 1, Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := join(slow).WriteAt(ctx, make([]byte, 512), 0); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	if err := l.settle(slow, failed); err != nil || l.pending() != 0 || l.allPending() != 1 {
		t.Errorf("%v, pending %d of the domain, %d in all", err, l.pending(), l.allPending())
	}
	if err := l.notJoining("b"); !errors.Is(err, ErrLUNBusy) {
		t.Errorf("again too early: %v", err)
	}
	slow.Release()
	if err := l.notJoining("b"); err != nil || len(l.all()) != 1 {
		t.Errorf("afterwards: %v, %d open", err, len(l.all()))
	}
	for range 2 { // the second is another device for a LUN that is there
		if err := l.settle(join(blockdev.NewMem(1<<20, 512).Rename("c")), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.list()) != 2 || len(l.all()) != 3 || len(l.joining) != 0 {
		t.Errorf("%d for readers, %d open, %d joining", len(l.list()), len(l.all()), len(l.joining))
	}
}
