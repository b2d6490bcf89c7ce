package host

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/extend"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// A host that is the SPM itself asks like any other: over the network to itself, and by its own mailbox.
func TestHost_Extend(t *testing.T) {
	t.Parallel()
	h, m := founded(t)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	made, err := h.Role().CreateVolume(ctx, spm.CreateRequest{Name: "thin", Size: 10 << 30, InitialSize: 100 << 20})
	if err != nil {
		t.Fatal(err)
	}
	id := made.Volume.ID
	allocated := func() int64 {
		t.Helper()
		vols, err := h.Role().Volumes()
		if err != nil || len(vols) != 1 {
			t.Fatalf("%v, %v", vols, err)
		}
		return vols[0].AllocatedBytes
	}
	if err := h.Extend(ctx, m.Domain, id, 1<<30); err != nil || allocated() != 1<<30 {
		t.Errorf("%v, %d bytes", err, allocated())
	}
	if err := h.AskExtend(ctx, extend.Request{Domain: m.Domain, Volume: id, Size: 2 << 30, StorageOnly: true}); err != nil || allocated() != 2<<30 {
		t.Errorf("through the storage: %v, %d bytes", err, allocated())
	}
	ext, mail, ok := h.ExtendStats()
	if !ok || ext.ByRPC != 1 || ext.ByMailbox != 1 || mail.Asked != 1 || mail.Answered != 1 {
		t.Errorf("%+v, %+v, %v", ext, mail, ok)
	}
	if s, ok := h.Role().MailboxStats(); !ok || s.Answered != 1 || s.Refused != 0 {
		t.Errorf("%+v, %v", s, ok)
	}
	v, err := h.Mailbox(ctx)
	if err != nil || v.Domain != m.Domain || v.Event == ([16]byte{}) {
		t.Errorf("%+v, %v", v, err)
	}
	if err := h.Extend(ctx, m.Domain, id, 12<<30); !errors.Is(err, spm.ErrInvalid) {
		t.Errorf("more than it can need: %v", err)
	}
	if err := h.Extend(ctx, m.Domain, "11111111-0000-4000-8000-000000000001", 1<<30); !errors.Is(err, domain.ErrNotFound) {
		t.Errorf("no such volume: %v", err)
	}
	settings(t, h, m.Domain)
}

// settings sets those of a domain, and sees that they hold at once.
func settings(t *testing.T, h *Host, domainID string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	if err := h.SetDomain(ctx, domainID, spm.Settings{CriticalFree: new(int64(1 << 40)), WarnPercent: new(25)}); err != nil {
		t.Fatal(err)
	}
	if s := DomainSettings(h.Node().View(), domainID); *s.CriticalFree != 1<<40 || *s.WarnPercent != 25 {
		t.Errorf("%+v", s)
	}
	if _, err := h.Role().CreateVolume(ctx, spm.CreateRequest{Name: "new", Size: 1 << 30}); !errors.Is(err, spm.ErrCritical) {
		t.Errorf("a new volume: %v", err)
	}
	for _, s := range []spm.Settings{{WarnPercent: new(101)}, {CriticalFree: new(int64(-1))}} {
		if err := h.SetDomain(ctx, domainID, s); !errors.Is(err, fsm.ErrInvalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if err := h.SetDomain(ctx, domainID, spm.Settings{CriticalFree: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Role().CreateVolume(ctx, spm.CreateRequest{Name: "new", Size: 1 << 30}); err != nil {
		t.Errorf("a new volume: %v", err)
	}
}

// A host that is no member asks nobody.
func TestHost_Extend_notMember(t *testing.T) {
	t.Parallel()
	h := New(Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := h.Extend(ctx, "d", "v", 1); err == nil {
		t.Error("somebody answered")
	}
	if _, _, ok := h.ExtendStats(); ok {
		t.Error("it counts")
	}
	if _, err := h.Mailbox(ctx); !errors.Is(err, ErrNotOpen) {
		t.Errorf("its mailbox: %v", err)
	}
}
