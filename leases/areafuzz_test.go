package leases

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// fuzzHosts is how many hosts the areas of these fuzz targets have.
const fuzzHosts = 6

// emptyLockspace is a device in memory with an empty lockspace at its start, to be cloned.
func emptyLockspace(f *testing.F) *blockdev.Mem {
	f.Helper()
	mem := blockdev.NewMem(2*mib, 512)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := InitLockspace(ctx, mem, 0, Geometry512, "ls", Fast.IOTimeout); err != nil {
		f.Fatal(err)
	}
	return mem
}

// credible makes b the area of resource "res" whose checksums are right, so that what it says counts.
func credible(b []byte) []byte {
	area := make([]byte, (fuzzHosts+2)*512)
	copy(area, b)
	var l Leader
	_ = l.Decode(area)
	l.Magic, l.Version, l.Flags, l.SectorSize, l.NumHosts, l.MaxHosts = magicResource, versionResource, l.Flags&flagShortHold, 512, fuzzHosts, 2000
	l.Space, l.Resource = RawName("ls"), RawName("res")
	l.Encode(area)
	for h := 1; h <= fuzzHosts; h++ {
		sector := area[Geometry512.sector(h+1):Geometry512.sector(h+2)]
		var d DBlock
		if _ = d.Decode(sector); !emptyBlock(sector) {
			d.Encode(sector)
		}
	}
	return area
}

// FuzzResource: whatever a resource's area says, and even if its checksums are right, a look gives an answer or an error,
// and so does an attempt to take it. A lease that is given has a higher version than the one before and stands on disk.
func FuzzResource(f *testing.F) {
	for _, b := range goldenBytes(f) {
		f.Add(b, true)
		f.Add(b, false)
	}
	empty := emptyLockspace(f)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			b = credible(b)
		}
		mem := empty.Clone()
		mem.SetBytes(mib, b[:min(len(b), (fuzzHosts+2)*512)])
		us := Standalone{Lockspace: "ls", HostID: 3, Generation: 2, Profile: Fast, Log: quiet()}
		ls, err := us.lockspace(mem, Geometry512)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		spec := ResourceSpec{Name: "res", Device: mem, Offset: mib, NoWait: true}
		before, err := ls.ReadResource(ctx, spec)
		lease, aerr := ls.Acquire(ctx, spec)
		if aerr != nil {
			return
		}
		after, rerr := ls.ReadResource(context.Background(), spec) // in memory; the deadline may be over by now
		if err != nil || rerr != nil || lease.Epoch() <= before.Version || after.Version != lease.Epoch() || after.Owner != 3 {
			t.Fatalf("before %+v (%v), got version %d, after %+v (%v)", before, err, lease.Epoch(), after, rerr)
		}
	})
}

// FuzzLockspace: whatever the records of a lockspace say, a survey, a look and an attempt to free a host give an answer or
// an error, and only the record of that host is written.
func FuzzLockspace(f *testing.F) {
	seedAreas(f)
	empty := emptyLockspace(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := empty.Clone()
		mem.SetBytes(512, b[:min(len(b), fuzzHosts*512)])
		ls, err := Standalone{Lockspace: "ls", HostID: 1, Generation: 1, Profile: Fast, Log: quiet()}.lockspace(mem, Geometry512)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if s, err := ReadSurvey(ctx, mem, 0, Geometry512, "ls", fuzzHosts, nil); err == nil && s.Highest() > fuzzHosts {
			t.Fatalf("host %d of %d", s.Highest(), fuzzHosts)
		}
		was := mem.Bytes(0, 8*512)
		ls.area, ls.cover = make([]byte, 8*512), 8
		_ = ls.look(ctx, false)
		seen, err := ls.ReadHost(ctx, 2)
		if err != nil {
			return
		}
		if err := ls.FreeRecord(ctx, seen); err == nil && mem.Bytes(512+152, 1)[0] != 0 {
			t.Fatal("freed, and its timestamp is not 0")
		}
		if now := mem.Bytes(0, 8*512); string(now[:512]) != string(was[:512]) || string(now[1024:]) != string(was[1024:]) {
			t.Fatal("another record was written")
		}
	})
}
