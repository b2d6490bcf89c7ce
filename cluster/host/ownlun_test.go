package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/fsm"
)

// A LUN of a domain that the pool uses must be refused whatever is forced, by whatever path it is reached.
func TestRefuseOwn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const id = "6f1b9a60-5d0c-4a39-9a57-0d9d7b6f1a11"
	dev := blockdev.NewMem(1<<30, 512)
	if _, err := lvm2.Create(ctx, lvm2.CreateOptions{Name: id, ExtentSize: 1 << 20, MetadataSize: 1 << 20, Devices: []blockdev.Device{dev},
		DeviceHints: []string{"/dev/x"}, Host: "h1", Now: time.Unix(1, 0)}, nil); err != nil {
		t.Fatal(err)
	}
	devs := []blockdev.Device{dev}
	own := []fsm.Domain{{ID: id, Name: "data", LUNs: []string{"/dev/mapper/elsewhere"}}}
	if err := refuseOwn(ctx, own, devs); !errors.Is(err, ErrOwnLUN) {
		t.Errorf("known by what lies on it: %v", err)
	}
	if err := refuseOwn(ctx, []fsm.Domain{{ID: "another", LUNs: []string{"/dev/y"}}}, devs); err != nil {
		t.Errorf("another pool's domain is a matter of force: %v", err)
	}
	blank := blockdev.NewMem(1<<20, 512)
	if err := refuseOwn(ctx, []fsm.Domain{{ID: id, LUNs: []string{blank.Name()}}}, []blockdev.Device{blank}); !errors.Is(err, ErrOwnLUN) {
		t.Errorf("known by its path although its label is gone: %v", err)
	}
}

func TestSameLUN(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, link, b := filepath.Join(dir, "a"), filepath.Join(dir, "link"), filepath.Join(dir, "b")
	for _, p := range []string{a, b} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(a, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		x, y string
		same bool
	}{{a, a, true}, {a, link, true}, {a, b, false}, {a, filepath.Join(dir, "none"), false}, {"nbd://h/x", "nbd://h/x", true}} {
		if got := sameLUN(c.x, c.y); got != c.same {
			t.Errorf("sameLUN(%s, %s) = %v", c.x, c.y, got)
		}
	}
}
