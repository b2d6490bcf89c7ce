package main

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// A lease that a host holds for a VM, seen from another host: who has it, why it can neither be deleted nor its index be
// rebuilt, when it could be had once its holder is silent, and that it is free when the holder is gone.
func TestE2E_leaseHeld(t *testing.T) {
	p := startPool(t)
	const id = "6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02"
	spm := mustSPM(t, p)
	holder := p.other(spm.Host)
	name := p.file().Hosts[holder].Name
	asker := p.client(p.index(spm.Host))
	ctx := deadline(t, 90*time.Second)
	if _, err := asker.CreateLease(ctx, p.file().Domain, id); err != nil {
		t.Fatal(err)
	}
	held, err := p.client(holder).AcquireLease(ctx, p.file().Domain, id, api.LeaseFor{VM: "vm-1"})
	if err != nil {
		t.Fatal(err)
	}
	var l api.Lease
	state := func(right func(l api.Lease) bool) {
		t.Helper()
		testutil.Retry(t, 60*time.Second, func() (err error) {
			if l, err = asker.Lease(ctx, p.file().Domain, id); err == nil && !right(l) {
				err = errors.New("not yet")
			}
			return err
		})
	}
	state(func(l api.Lease) bool { return l.HolderState == "LIVE" })
	if l.Status != api.LeaseExclusive || l.Holder != name || l.Version != held.Version || l.Takeable || l.Reason == "" {
		t.Errorf("held: %+v", l)
	}
	_, err = asker.DeleteLease(ctx, p.file().Domain, id, false)
	wantHolder(t, err, name)
	_, err = asker.RebuildLeases(ctx, p.file().Domain, api.LeaseRebuild{})
	wantHolder(t, err, name)
	if _, err := p.kill(name); err != nil {
		t.Fatal(err)
	}
	// Agent and keeper are gone at once: the lease is theirs until the host counts as dead, or comes back.
	state(func(l api.Lease) bool { return l.Status == api.LeaseFree || l.Takeable || l.FreeIn > 0 })
	if l.FreeIn > 0 && (l.Holder != name || l.Takeable || l.Reason == "") {
		t.Errorf("held by a silent host: %+v", l)
	}
	state(func(l api.Lease) bool { return l.Status == api.LeaseFree })
	if l.LastHolder != name || !l.Takeable {
		t.Errorf("free: %+v", l)
	}
	if d, err := asker.DeleteLease(ctx, p.file().Domain, id, false); err != nil || !d.Deleted {
		t.Errorf("%+v, %v", d, err)
	}
}

func wantHolder(t *testing.T, err error, name string) {
	t.Helper()
	wantCode(t, err, api.CodeBusy)
	var e *api.Error
	if errors.As(err, &e) && e.Holder != name {
		t.Errorf("holder %q, it is %q", e.Holder, name)
	}
}
