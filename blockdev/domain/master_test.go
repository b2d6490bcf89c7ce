package domain

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

const otherDomain = "9bdbc85e-e554-4ae0-b318-8a5465fe5fe2"

// newRegular makes a further domain of the test pool.
func newRegular(t testing.TB, lun blockdev.Device) *Domain {
	t.Helper()
	o := testCreateOptions(lun)
	o.UUID, o.Name, o.Master = otherDomain, "second", false
	if _, err := Create(deadline(t), o); err != nil {
		t.Fatal(err)
	}
	return openDomain(t, lun)
}

// TestKeys_becomeMaster_sameAsVDSM: a regular domain that becomes master has the very keys of a master that VDSM made, and one
// that steps down differs from it in the two keys that VDSM changes.
func TestKeys_becomeMaster_sameAsVDSM(t *testing.T) {
	t.Parallel()
	keys, err := keysOfTags(goldenLines(t, "block_v5_regular.tags"))
	if err != nil {
		t.Fatal(err)
	}
	keys.become(MasterSpec{Pool: "5d928855-b09b-47a7-b920-bd2d2eb5808c", PoolName: "Default", Version: 1})
	want := goldenLines(t, "block_v5_master.lines")
	if got := keys.lines(); !slices.Equal(got, want) {
		t.Fatalf("lines:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	keys.stepDown()
	got := keys.lines()
	for i, l := range want {
		want[i] = strings.NewReplacer("ROLE=Master", "ROLE=Regular", "MASTER_VERSION=1", "MASTER_VERSION=0").Replace(l)
	}
	if !slices.Equal(got[:len(got)-1], want[:len(want)-1]) {
		t.Fatalf("stepped down:\n%s", strings.Join(got, "\n"))
	}
}

// TestKeys_masterState reads what VDSM's masters say, and what a damaged one does.
func TestKeys_masterState(t *testing.T) {
	t.Parallel()
	const pool = "5d928855-b09b-47a7-b920-bd2d2eb5808c"
	for _, v := range []string{"v3", "v4", "v5"} {
		keys, err := keysOfTags(goldenLines(t, "block_"+v+"_master.tags"))
		if err != nil {
			t.Fatal(err)
		}
		m := keys.masterState()
		if !m.InForce(pool) || m.Version != 1 || m.PoolName != "Default" || !slices.Equal(m.Members, []MemberStatus{{keys[keySDUUID], PoolActive}}) {
			t.Errorf("%s: %+v", v, m)
		}
		if m.InForce(otherDomain) {
			t.Error("master of any pool")
		}
	}
	for name, change := range map[string]func(Keys){
		"no version":      func(k Keys) { delete(k, keyMasterVersion) },
		"bad version":     func(k Keys) { k[keyMasterVersion] = "one" },
		"huge version":    func(k Keys) { k[keyMasterVersion] = "999999999999" },
		"does not list":   func(k Keys) { k[keyPoolDomains] = otherDomain + ":Active" },
		"mark is no mark": func(k Keys) { k[keyNextMaster] = "somebody" },
		"regular":         Keys.stepDown,
	} {
		k := newKeys(testCreateOptions(), "vg")
		k[keyPoolUUID] = pool
		if !k.masterState().InForce(pool) {
			t.Fatal("the fresh keys are not whole")
		}
		change(k)
		if m := k.masterState(); m.InForce(pool) {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestKeys_listMembers keeps the order that is there, puts new ones behind it, and drops those that left.
func TestKeys_listMembers(t *testing.T) {
	t.Parallel()
	k := Keys{keySDUUID: "m", keyPoolDomains: "'b':'inactive',m:ACTIVE,gone:Active,junk"}
	k.listMembers([]MemberStatus{{"a", PoolActive}, {"m", PoolAttached}, {"b", PoolAttached}})
	if got := k[keyPoolDomains]; got != "b:Attached,m:Active,a:Active" {
		t.Error(got)
	}
	k.listMembers(nil)
	if got := k[keyPoolDomains]; got != "m:Active" {
		t.Error(got)
	}
}

// TestKeys_listMembers_many: as many domains as a tag has room for, and always the master itself.
func TestKeys_listMembers_many(t *testing.T) {
	t.Parallel()
	var all []MemberStatus
	for n := range 100 {
		all = append(all, MemberStatus{volID(n), PoolActive})
	}
	for _, self := range []int{0, 50, 99} {
		k := newKeys(testCreateOptions(), "vg")
		k[keySDUUID], k[keyPoolUUID], k[keyPoolDomains] = all[self].ID, testPool, ""
		k.listMembers(all)
		m := k.masterState()
		if len(m.Members) != 21 || !m.InForce(testPool) {
			t.Errorf("%d domains are listed, %+v", len(m.Members), m)
		}
		first := k[keyPoolDomains]
		if k.listMembers(all); k[keyPoolDomains] != first {
			t.Error("the list changes without a reason")
		}
	}
	lun := blockdev.NewMem(lunSize, 512)
	if err := writer(t, newDomain(t, lun)).SetMembers(deadline(t), all); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, lun)
}

// TestWriter_masterMoves takes the master from one domain to another, on disk.
func TestWriter_masterMoves(t *testing.T) {
	t.Parallel()
	one, two := blockdev.NewMem(lunSize, 512).Rename("one"), blockdev.NewMem(lunSize, 512).Rename("two")
	a, b := newDomain(t, one), newRegular(t, two)
	wa, wb := writer(t, a), writer(t, b)
	create(t, wa, qcow(1))
	create(t, wb, qcow(2))
	members := []MemberStatus{{testDomain, PoolActive}, {otherDomain, PoolActive}}
	next := NextMaster{otherDomain, 2}
	ctx := deadline(t)
	for _, step := range []func() error{
		func() error { return wa.AnnounceMaster(ctx, next) },
		func() error { return wb.ClearMailbox(ctx) },
		func() error {
			return wb.BecomeMaster(ctx, MasterSpec{Pool: testPool, PoolName: a.Master().PoolName, Version: 2, Members: members, From: a.Keys()})
		},
		func() error { return wa.StepDown(ctx) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		mustBeClean(t, one)
		mustBeClean(t, two)
	}
	if m := openDomain(t, one).Master(); m.Master || m.Version != 0 || m.Next != next {
		t.Errorf("the old one says %+v", m)
	}
	if m := openDomain(t, two).Master(); !m.InForce(testPool) || m.Version != 2 || m.PoolName != "pool" || m.Next != (NextMaster{}) ||
		!slices.Equal(m.Members, members) {
		t.Errorf("the new one says %+v", m)
	}
	seqno := a.Info().Seqno
	for range 2 {
		if err := wa.AnnounceMaster(ctx, NextMaster{}); err != nil {
			t.Fatal(err)
		}
	}
	if m := openDomain(t, one).Master(); m.Next != (NextMaster{}) || a.Info().Seqno != seqno+1 || a.Info().Role != roleRegular || b.Info().Role != roleMaster {
		t.Errorf("%+v, from seqno %d to %d", m, seqno, a.Info().Seqno)
	}
	create(t, wa, qcow(3)) // volumes go on as before
	create(t, wb, qcow(4))
	if err := wb.BecomeMaster(ctx, MasterSpec{Pool: testPool, Version: 0}); !errors.Is(err, ErrInvalid) {
		t.Errorf("version 0: %v", err)
	}
}

// TestWriter_masterLeaseLost: no key is written without the lease.
func TestWriter_masterLeaseLost(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	lost := false
	w, _, err := d.BecomeWriter(deadline(t), openGuard{epoch: 3, closed: func() bool { return lost }})
	if err != nil {
		t.Fatal(err)
	}
	lost = true
	for name, f := range map[string]func() error{
		"announce": func() error { return w.AnnounceMaster(deadline(t), NextMaster{otherDomain, 2}) },
		"become":   func() error { return w.BecomeMaster(deadline(t), MasterSpec{Pool: testPool, Version: 9}) },
		"step":     func() error { return w.StepDown(deadline(t)) },
		"clear":    func() error { return w.ClearMailbox(deadline(t)) },
	} {
		if err := f(); !errors.Is(err, blockdev.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m := openDomain(t, lun).Master(); m.Version != 1 || !m.Master || m.Next != (NextMaster{}) {
		t.Errorf("%+v", m)
	}
}

// TestWriter_copyMaster makes the volume of one domain that of another.
func TestWriter_copyMaster(t *testing.T) {
	t.Parallel()
	one, two := blockdev.NewMem(lunSize, 512).Rename("one"), blockdev.NewMem(lunSize, 512).Rename("two")
	a, b := newDomain(t, one), newRegular(t, two)
	from, err := a.Device("master")
	if err != nil {
		t.Fatal(err)
	}
	for i, off := range []int64{0, 7*mib + 512, from.Size() - 4096} {
		if err := from.WriteAt(deadline(t), bytes.Repeat([]byte(fmt.Sprintf("file %d  ", i)), 512), off); err != nil {
			t.Fatal(err)
		}
	}
	to, err := b.Device("master")
	if err != nil {
		t.Fatal(err)
	}
	if err := to.WriteAt(deadline(t), bytes.Repeat([]byte("leftover"), 512), 100*mib); err != nil {
		t.Fatal(err)
	}
	if err := writer(t, b).CopyMaster(deadline(t), from); err != nil {
		t.Fatal(err)
	}
	want, got := make([]byte, mib), make([]byte, mib)
	for off := int64(0); off < from.Size(); off += mib {
		if err := errors.Join(from.ReadAt(deadline(t), want, off), to.ReadAt(deadline(t), got, off)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, got) {
			t.Fatalf("differs at %d MiB", off/mib)
		}
	}
}

// FuzzMasterState: keys come from a LUN.
func FuzzMasterState(f *testing.F) {
	f.Add("Master", "1", "8adbc85e-e554-4ae0-b318-8a5465fe5fe1:Active,x:y", "9bdbc85e-e554-4ae0-b318-8a5465fe5fe2:2")
	f.Add("Regular", "0", "", "")
	f.Add("master", "-1", "'a':'active',,:,b", "a:b:c")
	f.Fuzz(func(t *testing.T, role, version, members, next string) {
		k := Keys{keySDUUID: testDomain, keyRole: role, keyMasterVersion: version, keyPoolDomains: members, keyNextMaster: next, keyPoolUUID: testPool}
		m := k.masterState()
		if m.InForce(testPool) && (m.Version < 0 || m.Version > maxMasterVersion) {
			t.Errorf("%+v", m)
		}
		if m.Next != (NextMaster{}) {
			again := Keys{}
			again.setNext(m.Next)
			if n, err := parseNext(again[keyNextMaster]); err != nil || n != m.Next {
				t.Errorf("%+v, %v", n, err)
			}
		}
		k.listMembers(m.Members)
		first := k[keyPoolDomains]
		if k.listMembers(parseMembers(first)); !slices.Contains(parseMembers(k[keyPoolDomains]), MemberStatus{testDomain, PoolActive}) {
			t.Errorf("%q", k[keyPoolDomains])
		}
	})
}
