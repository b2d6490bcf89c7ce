package leases

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// TestSanlock_readsSharing: sanlock's dump shows our shared leases, conversions and requests as its own.
func TestSanlock_readsSharing(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	ls, spec, path := joinedOn(t, 0)
	ctx := testutil.Deadline(t)
	dump := func(what, version string, shared, held bool) {
		t.Helper()
		out := direct(t, "dump", path+":1048576:1M", "-f", "1")
		lines := strings.Split(out, "\n")
		if len(lines) < 2 {
			t.Fatalf("%s: %s", what, out)
		}
		f := strings.Fields(lines[1])
		if len(f) != 7 || f[6] != version || (f[3] != "0000000000") != held || strings.Contains(out, "0003 0001 SH") != shared {
			t.Errorf("%s, want %s, shared %v, held %v:\n%s", what, version, shared, held, out)
		}
	}
	s, err := ls.AcquireShared(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	dump("shared", "1/0/0", true, false)
	l, err := s.ToExclusive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dump("converted to exclusive", "2/0/0", false, true)
	if s, err = l.ToShared(ctx); err != nil {
		t.Fatal(err)
	}
	dump("converted to shared", "2/0/0", true, false)
	if err := s.Release(ctx); err != nil {
		t.Fatal(err)
	}
	dump("released", "2/0/0", false, false)
	sanlockAsked(t, ls, spec, dump)
}

// sanlockAsked: host 5 joins and takes the lease by sanlock's hand, we ask for it, and take that back.
func sanlockAsked(t *testing.T, ls *Lockspace, spec ResourceSpec, dump func(what, version string, shared, held bool)) {
	t.Helper()
	ctx, path := testutil.Deadline(t), spec.Device.Name()
	direct(t, "acquire_id", "-s", "LS:5:"+path+":0", "-o", "1", "-e", "theirs")
	direct(t, "acquire", "-i", "5", "-g", "1", "-r", "LS:res:"+path+":1048576")
	direct(t, "renew_id", "-s", "LS:5:"+path+":0", "-o", "1", "-e", "theirs")
	info, err := ls.Request(ctx, spec, 0, RequestGraceful)
	if err != nil || info.Owner != 5 || info.Takeable {
		t.Fatalf("%+v, %v", info, err)
	}
	dump("asked for", "3/4/2", false, true)
	if err := ls.ClearRequest(ctx, spec); err != nil {
		t.Fatal(err)
	}
	dump("taken back", "3/0/0", false, true)
}

// TestSanlock_readsEvents: sanlock finds our event at the fields where it keeps its own.
func TestSanlock_readsEvents(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	ls, _, path := joinedOn(t, 0)
	if err := ls.SendEvent(testutil.Deadline(t), 5, 6, 77, 88); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, time.Minute, func() error {
		out := direct(t, "read_leader", "-s", fmt.Sprintf("LS:3:%s:0", path))
		for _, want := range []string{"extra1 6", "extra2 77", "extra3 88"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %q in\n%s", want, out)
			}
		}
		return nil
	})
}

// TestSanlock_goesOnAfterSharing: sanlock's ballots work on the blocks that sharing leaves behind, and ours on sanlock's.
func TestSanlock_goesOnAfterSharing(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	ls, spec, path := joinedOn(t, 0)
	ctx := testutil.Deadline(t)
	res := fmt.Sprintf("LS:res:%s:1048576", path)
	for round := range uint64(4) {
		s, err := ls.AcquireShared(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		if s.Epoch() != 3*round+1 {
			t.Errorf("version %d in round %d", s.Epoch(), round)
		}
		l, err := s.ToExclusive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if out := direct(t, "acquire", "-i", "5", "-g", "1", "-r", res); !strings.Contains(out, "-241") {
			t.Errorf("sanlock took what we hold: %s", out)
		}
		if s, err = l.ToShared(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Release(ctx); err != nil {
			t.Fatal(err)
		}
		if out := direct(t, "acquire", "-i", "5", "-g", "1", "-r", res); !strings.Contains(out, "acquire done 0") {
			t.Errorf("sanlock could not take what we released: %s", out)
		}
	}
}
