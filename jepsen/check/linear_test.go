package check

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

const vol = "jv-1-a"

func TestLinearVolumes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		plant func(*told)
		want  string // empty: it must pass
	}{
		"create, read, delete, read": {func(h *told) {
			h.list(true)
			h.create(vol, "k1", "i1")
			h.list(true, vol, "i1")
			h.delete(vol, "i1")
			h.list(true)
		}, ""},
		"stale read served as consistent": {func(h *told) {
			h.create(vol, "k1", "i1")
			h.list(true)
		}, "shows nothing"},
		"a deleted volume shown as consistent": {func(h *told) {
			h.create(vol, "k1", "i1")
			h.delete(vol, "i1")
			h.list(true, vol, "i1")
		}, "shows i1"},
		"two volumes of one name": {func(h *told) {
			h.create(vol, "k1", "i1")
			h.create(vol, "k2", "i2")
		}, "create by client 1 of i2"},
		"a read during the create may show either": {func(h *told) {
			during(h.create(vol, "k1", "i1"), 10, 50)
			h.list(true)
			h.list(true, vol, "i1")
		}, ""},
		"but not go back": {func(h *told) {
			during(h.create(vol, "k1", "i1"), 10, 50)
			h.list(true, vol, "i1")
			h.list(true)
		}, "shows nothing"},
		"an unknown create may come late": {func(h *told) {
			unknown(h.create(vol, "k1", "i1"))
			h.list(true)
			h.list(true, vol, "i1")
		}, ""},
		"or never": {func(h *told) {
			unknown(h.create(vol, "k1", "i1"))
			h.create(vol, "k2", "i2")
			h.list(true, vol, "i2")
		}, ""},
		"but does not go by itself": {func(h *told) {
			unknown(h.create(vol, "k1", "i1"))
			h.list(true, vol, "i1")
			h.list(true)
		}, "shows nothing"},
		"a create that failed is not there": {func(h *told) {
			refused(h.create(vol, "k1", "i1"), api.CodeUnavailable)
			h.list(true, vol, "i1")
		}, "shows i1"},
		"an unknown delete may come late": {func(h *told) {
			h.create(vol, "k1", "i1")
			unknown(h.delete(vol, "i1"))
			h.list(true, vol, "i1")
			h.list(true)
		}, ""},
		"what is not mirrored may show late": {func(h *told) {
			unmirrored(h.create(vol, "k1", "i1"))
			h.list(true)
			h.list(true, vol, "i1")
		}, ""},
		"a show that finds nothing": {func(h *told) {
			h.create(vol, "k1", "i1")
			refused(h.show(true, vol, ""), api.CodeNotFound)
		}, "shows nothing"},
		"two deletes at once": {func(h *told) {
			h.create(vol, "k1", "i1")
			during(h.delete(vol, "i1"), 30, 40)
			during(h.delete(vol, "i1"), 30, 40)
		}, ""},
		"a key that is repeated": {func(h *told) {
			h.create(vol, "k1", "i1")
			h.create(vol, "k1", "i1")
			h.list(true, vol, "i1")
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h told
			tt.plant(&h)
			if tt.want == "" {
				mustPass(t, h.r, LinearVolumes, LinearDisk)
				return
			}
			mustFail(t, h.r, LinearVolumes, tt.want)
		})
	}
}

func TestLinearDisk_whatIsThereIsNotFound(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"i1", ""} { // by id and by name
		var h told
		h.create(vol, "k1", "i1")
		refused(h.delete(vol, id), api.CodeNotFound)
		mustFail(t, h.r, LinearDisk, "not_found")
	}
}

// The disk knows of a delete before the mirror does, and as long as that is not acknowledged both may say what they know.
func TestLinear_notFoundBeforeTheMirrorFollows(t *testing.T) {
	t.Parallel()
	var h told
	h.create(vol, "k1", "i1")
	during(h.delete(vol, "i1"), 20, 100)
	refused(h.delete(vol, ""), api.CodeNotFound)
	h.list(true, vol, "i1")
	mustPass(t, h.r, LinearVolumes, LinearDisk)
}

func TestLinearDisk_deletedTwice(t *testing.T) {
	t.Parallel()
	var h told
	unmirrored(h.create(vol, "k1", "i1"))
	unmirrored(h.create(vol, "k2", "i2"))
	mustPass(t, h.r, LinearVolumes)
	mustFail(t, h.r, LinearDisk, "i2")
}

// A search that does not end proves nothing.
func TestLinear_timeoutFails(t *testing.T) {
	before := linearTimeout
	linearTimeout = time.Millisecond
	defer func() { linearTimeout = before }()
	var h told
	for i := range 20 {
		during(h.create(vol, fmt.Sprint("k", i), fmt.Sprint("i", i)), 1, 9)
		during(h.delete(vol, fmt.Sprint("i", i)), 1, 9)
	}
	during(h.list(true, vol, "never made"), 1, 9) // every order has to be tried
	mustFail(t, h.r, LinearVolumes, "not decided")
}

func TestLinearRegisters(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		plant func(*told)
		want  string
	}{
		"writes and reads": {func(h *told) {
			h.show(true, vol, "")
			h.describe(vol, "a")
			h.show(true, vol, "a")
			unknown(h.describe(vol, "b"))
			h.show(true, vol, "a")
			h.show(true, vol, "b")
		}, ""},
		"stale read served as consistent": {func(h *told) {
			h.describe(vol, "a")
			h.describe(vol, "b")
			h.show(true, vol, "a")
		}, `shows "a"`},
		"a lost write": {func(h *told) {
			h.describe(vol, "a")
			h.show(true, vol, "")
		}, `shows ""`},
		"a failed write is read": {func(h *told) {
			refused(h.describe(vol, "a"), api.CodeUnavailable)
			h.show(true, vol, "a")
		}, `shows "a"`},
		"back to an old value": {func(h *told) {
			unknown(h.describe(vol, "a"))
			h.describe(vol, "b")
			h.show(true, vol, "a")
			h.show(true, vol, "b")
		}, `shows "b"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h told
			h.create(vol, "k", "id-"+vol)
			tt.plant(&h)
			if tt.want == "" {
				mustPass(t, h.r, LinearRegisters)
				return
			}
			mustFail(t, h.r, LinearRegisters, tt.want)
		})
	}
}

func TestLinearLeases(t *testing.T) {
	t.Parallel()
	killed := history.Fault{Kind: "kill", Targets: []string{"h1"}, Begin: 12 * time.Second, End: 14 * time.Second}
	for name, tt := range map[string]struct {
		plant  func(*told)
		faults []history.Fault
		want   string
		tokens bool // the checker of pairs must find it, too
	}{
		"in turn": {plant: func(h *told) {
			h.inspect("", 0)
			h.acquire("h1", "a", 1)
			h.acquire("h1", "a", 1)
			h.inspect("h1", 1)
			h.release("h1", "a")
			h.inspect("", 1)
			h.acquire("h2", "b", 2)
		}},
		"two holders": {plant: func(h *told) {
			h.acquire("h1", "a", 1)
			h.acquire("h2", "b", 2)
		}, want: "h2 for b", tokens: true},
		"a killed host loses it": {plant: func(h *told) {
			h.acquire("h1", "a", 1)
			h.acquire("h2", "b", 2)
		}, faults: []history.Fault{killed}},
		"another one's death is no reason": {plant: func(h *told) {
			h.acquire("h2", "a", 1)
			h.acquire("h3", "b", 2)
		}, faults: []history.Fault{killed}, want: "h3 for b", tokens: true},
		"a token given out again": {plant: func(h *told) {
			h.acquire("h1", "a", 1)
			h.release("h1", "a")
			h.acquire("h2", "b", 1)
		}, want: "h2 for b", tokens: true},
		"a token that goes back": {plant: func(h *told) {
			h.acquire("h1", "a", 7)
			h.release("h1", "a")
			h.acquire("h2", "b", 5)
		}, want: "h1 for a", tokens: true},
		"still held after it was lost": {plant: func(h *told) {
			h.acquire("h1", "a", 1)
			h.acquire("h2", "b", 2)
			h.acquire("h1", "a", 1)
		}, faults: []history.Fault{killed}, want: "h1 for a", tokens: true},
		"an unknown acquire may have got it": {plant: func(h *told) {
			unknown(h.acquire("h1", "a", 0))
			h.inspect("", 0)
			h.inspect("h1", 1)
			h.release("h1", "a")
			h.acquire("h2", "b", 2)
		}},
		"a host that healed while its lease ran out": {plant: func(h *told) {
			for range 5 {
				h.list(true)
			}
			h.acquire("h1", "a", 1)
			h.acquire("h2", "b", 2)
			h.r.Run.Bounds = history.Bounds{IOTimeout: 10 * time.Second, Watchdog: time.Minute}
		}, faults: []history.Fault{{Kind: "storage", Targets: []string{"h1"}, Begin: time.Second, End: 2 * time.Second}}},
		"an unknown release may have freed it": {plant: func(h *told) {
			h.acquire("h1", "a", 1)
			unknown(h.release("h1", "a"))
			h.acquire("h2", "b", 2)
		}},
		"released by somebody who had it not": {plant: func(h *told) {
			h.acquire("h1", "a", 1)
			h.release("h2", "b")
		}, want: "h2 for b"},
		"shown free while it is held": {plant: func(h *told) {
			h.acquire("h1", "a", 1)
			h.inspect("", 1)
		}, want: "lease.show"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h told
			tt.plant(&h)
			h.r.Faults = tt.faults
			if tt.want == "" {
				mustPass(t, h.r, LinearLeases, Tokens)
				return
			}
			mustFail(t, h.r, LinearLeases, tt.want)
			if tt.tokens {
				mustFail(t, h.r, Tokens)
			}
		})
	}
}
