package apitest

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// LeaseID is the one lease of the pool.
const LeaseID = "6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02"

func lease() api.Lease {
	return api.Lease{ID: LeaseID, Domain: DomainID, Status: api.LeaseExclusive, Holder: "h2", HostID: 2, HolderState: "LIVE",
		Generation: 4, Version: 9, Offset: 3 << 20, Age: 61.5, Reason: "its holder is alive",
		Start: &api.LeaseStart{Rule: api.StartAlive, Why: "h2 is alive and has the lease", Awaits: "h2 to give the lease back", Host: "h2",
			NextStep: "stop what runs under the lease on h2"}}
}

// proven is a lease whose holder was proven dead.
func proven() api.Lease {
	return api.Lease{ID: "9a1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02", Domain: DomainID, Status: api.LeaseFree, LastHolder: "h3", Generation: 2, Version: 3,
		Offset: 6 << 20, Takeable: true, Start: &api.LeaseStart{Startable: true, Rule: api.StartProven, Host: "h3",
			Why:   "h3's host id was freed: proof power_off, status off by h2, by h1",
			Proof: &api.LeaseProof{Kind: "power_off", Evidence: "status off by h2", By: "h1", Time: Now.Add(-time.Minute)}}}
}

// Leases implements httpapi.Leases.
func (f *Fake) Leases(context.Context, string) ([]api.Lease, error) {
	silent := lease()
	silent.ID, silent.HolderState, silent.Reason, silent.FreeIn = "7d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02", "FAIL", "its holder has been silent for 90s", 50
	silent.Start = &api.LeaseStart{Rule: api.StartSilent, Why: "h2 has been silent for 1m30s and may still be running", Awaits: "h2's lease to be DEAD", In: 50,
		Host: "h2", NextStep: "holdfast host fence h2"}
	shared := lease()
	shared.ID, shared.Status, shared.Age = "8d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02", api.LeaseShared, 0
	shared.Sharers = []api.LeaseHolder{{Host: "h2", HostID: 2, Generation: 4, State: "LIVE"}, {Host: "h3", HostID: 3, Generation: 1, State: "LIVE"}}
	return []api.Lease{lease(), silent, shared, proven()}, f.fail()
}

// Lease implements httpapi.Leases.
func (f *Fake) Lease(_ context.Context, _, id string) (api.Lease, error) {
	if id == proven().ID {
		return proven(), f.fail()
	}
	if id != LeaseID {
		return api.Lease{}, api.Errorf(api.CodeNotFound, "holdfast lease list shows what there is", "no such lease: %s", id)
	}
	return lease(), f.fail()
}

// CreateLease implements httpapi.Leases.
func (f *Fake) CreateLease(_ context.Context, domain, id string) (api.LeaseCreated, error) {
	return api.LeaseCreated{ID: id, Domain: domain, Offset: 4 << 20, Created: id != LeaseID, Epoch: 3}, f.fail()
}

// DeleteLease implements httpapi.Leases: the one lease of the pool is held.
func (f *Fake) DeleteLease(_ context.Context, domain, id string, force bool) (api.LeaseDeleted, error) {
	if id == LeaseID && !force {
		e := api.Errorf(api.CodeBusy, "release the lease where it is held", "lease %s is held", id)
		e.Holder = "h2"
		return api.LeaseDeleted{}, e
	}
	return api.LeaseDeleted{ID: id, Domain: domain, Deleted: id == LeaseID, Epoch: 3}, f.fail()
}

// RebuildLeases implements httpapi.Leases.
func (f *Fake) RebuildLeases(_ context.Context, domain string, _ api.LeaseRebuild) (api.LeaseRebuilt, error) {
	return api.LeaseRebuilt{Domain: domain, Leases: 1, Epoch: 3}, f.fail()
}

// AcquireLease implements httpapi.Leases.
func (f *Fake) AcquireLease(_ context.Context, domain, id string, who api.LeaseFor) (api.LeaseHeld, error) {
	return api.LeaseHeld{ID: id, Domain: domain, Host: "h1", Version: 8, LeaseFor: who}, f.fail()
}

// ReleaseLease implements httpapi.Leases.
func (f *Fake) ReleaseLease(_ context.Context, domain, id string, _ api.LeaseFor) (api.LeaseReleased, error) {
	return api.LeaseReleased{ID: id, Domain: domain, Host: "h1"}, f.fail()
}
