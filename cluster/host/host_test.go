package host

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// TestMain lets the test binary be its own keeper.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		if err := keeper.Main(context.Background(), slog.New(slog.NewTextHandler(os.Stderr, nil)), nil); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestHost_allowed(t *testing.T) {
	t.Parallel()
	h := New(Config{Devices: []string{"/dev/mapper/36*", "nbd://san:10809/lun1"}})
	for device, ok := range map[string]bool{
		"/dev/mapper/3600a": true, "nbd://san:10809/lun1": true, "/dev/sda": false, "/dev/mapper/36/../../sda": false,
	} {
		if err := h.allowed(device); (err == nil) != ok {
			t.Errorf("allowed(%q) = %v", device, err)
		}
	}
	if err := New(Config{}).allowed("/dev/sda"); err != nil {
		t.Errorf("an empty list must allow what an administrator names: %v", err)
	}
}

func TestHost_notMember(t *testing.T) {
	t.Parallel()
	h := New(Config{Cluster: cluster.Config{Name: "h1", DataDir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
	if h.Node() != nil || h.Role() != nil || h.Manager() != nil {
		t.Error("a host that is no member has parts of one")
	}
	if _, err := h.Leave(t.Context()); !errors.Is(err, cluster.ErrNotMember) {
		t.Errorf("leave: %v", err)
	}
	if _, _, err := h.CreateToken(t.Context(), "join", time.Hour); !errors.Is(err, cluster.ErrNotMember) {
		t.Errorf("create token: %v", err)
	}
	if _, err := h.Init(t.Context(), InitRequest{Pool: "p", Profile: "hasty"}); !errors.Is(err, fsm.ErrInvalid) {
		t.Errorf("init with an unknown profile: %v", err)
	}
}

// A device that is refused must be refused before there is a cluster, so that init can simply be tried again.
func TestHost_Init_refusedDeviceLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lun := filepath.Join(dir, "small.img")
	if err := os.WriteFile(lun, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	h := New(Config{Cluster: cluster.Config{Name: "h1", DataDir: dir}, Profile: "dev", Log: slog.New(slog.DiscardHandler)})
	_, err := h.Init(t.Context(), InitRequest{Pool: "p", Devices: []string{lun}})
	if !errors.Is(err, domain.ErrTooSmall) {
		t.Fatalf("init on a LUN of 1 MiB: %v", err)
	}
	if cluster.IsMember(dir) {
		t.Fatal("the host became a member although its LUN was refused")
	}
}

// Locks must give what package domain asks for, or leases are written that nobody can take.
func TestLocks_roundTrip(t *testing.T) {
	t.Parallel()
	dev := blockdev.NewMem(8<<20, 512)
	l := Locks{IOTimeout: leases.Dev.IOTimeout}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := l.InitResource(ctx, dev, 1<<20, "space", "SDM"); err != nil {
		t.Fatal(err)
	}
	space, name, err := l.ReadResource(ctx, dev, 1<<20)
	if err != nil || space != "space" || name != "SDM" {
		t.Fatalf("read back %q %q, %v", space, name, err)
	}
	head, err := l.EncodeResource(512, "space", "SDM")
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, len(head))
	if err := dev.ReadAt(ctx, disk, 1<<20); err != nil || string(disk) != string(head) {
		t.Fatalf("the short form differs from the long one: %v", err)
	}
	if err := l.InitLockspace(ctx, dev, 5<<20, "space"); err != nil {
		t.Fatal(err)
	}
	if bad, err := l.CheckLockspace(ctx, dev, 5<<20, "space"); err != nil || len(bad) != 0 {
		t.Fatalf("a fresh lockspace: %v %v", bad, err)
	}
	if bad, err := l.CheckLockspace(ctx, dev, 6<<20, "space"); err != nil || len(bad) != maxHostID {
		t.Fatalf("no lockspace: %d damaged, %v", len(bad), err)
	}
	if _, _, err := l.ReadResource(ctx, dev, 4<<20); err == nil {
		t.Fatal("an area that was never written was taken for a resource")
	}
}

func TestConfig_recordKeeper(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{Cluster: cluster.Config{DataDir: dir}}
	if err := c.recordKeeper(4711); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, keeperPidFile))
	if err != nil || strings.TrimSpace(string(b)) != "4711" {
		t.Fatalf("%q, %v", b, err)
	}
}
