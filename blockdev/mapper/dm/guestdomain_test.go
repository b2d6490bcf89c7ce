//go:build vmtest

package dm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

const (
	guestDomain = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"
	guestVolume = "11111111-0000-4000-8000-000000000001"
	guestImage  = "22222222-0000-4000-8000-000000000001"
)

// noLocks leaves the lock areas as they are: this test is about volumes.
type noLocks struct{}

func (noLocks) InitLockspace(context.Context, blockdev.Device, int64, string) error { return nil }
func (noLocks) InitResource(context.Context, blockdev.Device, int64, string, string) error {
	return nil
}
func (noLocks) FormatLeaseIndex(context.Context, blockdev.Device, string) error { return nil }

// newGuestDomain makes a whole storage domain with one thin volume, as the SPM does.
func newGuestDomain(t *testing.T) *guest {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dev, err := blockdev.Open(ctx, "/dev/vdc", blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	devs := []blockdev.Device{dev}
	d, err := domain.Create(ctx, domain.CreateOptions{UUID: guestDomain, Name: "guest", Devices: devs, Locks: noLocks{}, IOTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := d.BecomeWriter(ctx, yes{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Create(ctx, domain.VolumeSpec{ID: guestVolume, Image: guestImage, Format: domain.FormatQcow2, Capacity: 10 << 30, InitialSize: 256 * mib})
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, m: guestMapper(t)}
	if g.group, err = lvm2.Open(ctx, devs); err != nil {
		t.Fatal(err)
	}
	return g
}

// A volume of a real domain: what the SPM wrote is what the device shows, and it grows by the domain's extents.
func TestGuest_domain(t *testing.T) {
	g := newGuestDomain(t)
	d := g.activate(g.volume(guestVolume))
	if want := DefaultDir + "/" + strings.ReplaceAll(guestDomain, "-", "--") + "-" + strings.ReplaceAll(guestVolume, "-", "--"); d.Path != want {
		t.Errorf("%s, want %s", d.Path, want)
	}
	g.agree(d, guestVolume, "-wi-a-----")
	f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != "QFI\xfb" {
		t.Errorf("the qcow2 header through the device: %q, %v", head, err)
	}
	old := d.Table.Bytes()
	g.commit(func(tx *lvm2.Tx) error {
		_, err := tx.ExtendLV(guestVolume, old+(5<<29)) // a chunk of 2.5 GiB
		return err
	})
	if d, err = g.m.Refresh(deadline(t), g.volume(guestVolume)); err != nil || d.Table.Bytes() != old+(5<<29) {
		t.Fatalf("%v, %v", d.Table, err)
	}
	data := bytes.Repeat([]byte("holdfast"), 512)
	if _, err := f.WriteAt(data, d.Table.Bytes()-int64(len(data))); err != nil {
		t.Errorf("writing the last bytes of the new space: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	lv, err := g.group.Device(guestVolume)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if err := lv.ReadAt(deadline(t), got, d.Table.Bytes()-int64(len(data))); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back through the physical volume: %v", err)
	}
	g.agree(d, guestVolume, "-wi-ao----")
	lvm(t, "lvchange", "--refresh", guestDomain+"/"+guestVolume)
	g.agree(d, guestVolume, "-wi-ao----")
	f.Close()
	if err := g.m.Deactivate(deadline(t), g.id(guestVolume)); err != nil {
		t.Error(err)
	}
}
