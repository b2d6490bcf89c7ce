package check

import (
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

func TestSets(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		check Checker
		plant func(*told)
		want  string
	}{
		"all is well at the end": {FinalSet, func(h *told) {
			h.create(vol, "k1", "i1")
			h.create(vol+"b", "k2", "i2")
			h.delete(vol+"b", "i2")
			h.last(vol, "i1", "foreign", "x")
		}, ""},
		"a lost create": {FinalSet, func(h *told) {
			h.create(vol, "k1", "i1")
			h.last()
		}, "has lost " + vol},
		"a resurrected delete": {FinalSet, func(h *told) {
			h.create(vol, "k1", "i1")
			h.delete(vol, "i1")
			h.last(vol, "i1")
		}, "back"},
		"made again by its key": {FinalSet, func(h *told) {
			h.create(vol, "k1", "i1")
			h.delete(vol, "i1")
			h.create(vol, "k1", "i1")
			h.last(vol, "i1")
		}, ""},
		"a failed create is there": {FinalSet, func(h *told) {
			refused(h.create(vol, "k1", "i1"), api.CodeUnavailable)
			h.last(vol, "i1")
		}, "no create"},
		"an unknown create may be there": {FinalSet, func(h *told) {
			unknown(h.create(vol, "k1", "i1"))
			h.list(true, vol, "i1")
			h.last(vol, "i1")
		}, ""},
		"an unknown delete may have hit": {FinalSet, func(h *told) {
			h.create(vol, "k1", "i1")
			unknown(h.delete(vol, ""))
			h.last()
		}, ""},
		"twice on the LUN": {FinalSet, func(h *told) {
			h.create(vol, "k1", "i1")
			h.last(vol, "i1", vol, "i1")
		}, "twice"},
		"an LV that is nobody's": {FinalSet, func(h *told) {
			h.create(vol, "k1", "i1")
			h.last(vol, "i1", "", "i2")
		}, "no create"},
		"a lost description": {FinalSet, func(h *told) {
			h.create(vol, "k1", "id-"+vol)
			h.describe(vol, "a")
			h.last(vol, "id-"+vol)
		}, `has lost "a"`},
		"a run that did not end": {FinalSet, func(h *told) { h.create(vol, "k1", "i1") }, "no last lists"},
		"double create by one key": {Keys, func(h *told) {
			h.create(vol, "k1", "i1")
			h.delete(vol, "i1")
			h.create(vol, "k1", "i2")
		}, "key k1 gave i1"},
		"one volume for two keys": {Keys, func(h *told) {
			h.create(vol, "k1", "i1")
			h.create(vol, "k2", "i1")
		}, "the same volume"},
		"a name twice in a list": {Lists, func(h *told) { h.list(false, vol, "i1", vol, "i2") }, "twice"},
		"an epoch goes back": {Epochs, func(h *told) {
			h.create(vol, "k1", "i1").Epoch = 2
			h.create(vol+"b", "k2", "i2").Epoch = 1
		}, "epoch 1"},
		"epochs side by side": {Epochs, func(h *told) {
			during(h.create(vol, "k1", "i1"), 1, 30).Epoch = 2
			during(h.create(vol+"b", "k2", "i2"), 5, 40).Epoch = 1
		}, ""},
		"an epoch of two hosts": {Epochs, func(h *told) {
			h.add(history.SPMMove, "", history.MoveInput{}, history.MoveAnswer{Host: "h1"}).Epoch = 3
			h.r.Samples = []history.Sample{{Host: "h2", Answered: true, SPM: "h3", SPMState: "serving", Epoch: 3}}
		}, "epoch 3 belongs to h1"},
		"too little succeeded": {Enough, func(h *told) {
			h.r.Run.Least = 2
			h.create(vol, "k1", "i1")
			refused(h.create(vol, "k1", "i1"), api.CodeNoSPM)
		}, "1 operations succeeded, at least 2"},
		"one kind never worked": {Enough, func(h *told) {
			for range 20 {
				h.list(true)
				refused(h.delete(vol, ""), api.CodeInternal)
			}
		}, "none of 20"},
		"an operation that cannot be read": {Lists, func(h *told) { h.list(true).Output = []byte(`"no list"`) }, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h told
			tt.plant(&h)
			if tt.want == "" {
				mustPass(t, h.r, tt.check)
				return
			}
			mustFail(t, h.r, tt.check, tt.want)
		})
	}
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		plant func(*told)
		want  string
	}{
		"an old state that says so": {func(h *told) {
			h.create(vol, "k1", "i1").Index = 10
			stale(h.list(false), 9, time.Hour)
			stale(h.list(false, vol, "i1"), 10, 0)
		}, ""},
		"older than its index": {func(h *told) {
			h.create(vol, "k1", "i1").Index = 10
			stale(h.list(false), 10, time.Hour)
		}, "missing"},
		"older than its age": {func(h *told) {
			h.create(vol, "k1", "i1").Index = 10
			h.list(true)
			h.list(true)
			stale(h.list(false), 9, time.Second)
		}, "missing"},
		"shows what its index knows to be deleted": {func(h *told) {
			h.create(vol, "k1", "i1").Index = 10
			h.delete(vol, "i1").Index = 11
			stale(h.list(false, vol, "i1"), 11, 0)
		}, "deleted by then"},
		"shows what was deleted later": {func(h *told) {
			h.create(vol, "k1", "i1").Index = 10
			h.delete(vol, "i1").Index = 12
			stale(h.list(false, vol, "i1"), 11, time.Hour)
		}, ""},
		"shows what failed": {func(h *told) {
			refused(h.create(vol, "k1", "i1"), api.CodeBusy)
			h.list(false, vol, "i1")
		}, "no create"},
		"shows what comes later": {func(h *told) {
			h.list(false, vol, "i1")
			h.create(vol, "k1", "i1")
		}, "not yet made"},
		"its index goes back": {func(h *told) {
			stale(h.list(false), 10, 0)
			stale(h.list(false), 9, 0)
		}, "had shown index 10"},
		"goes back after a restart": {func(h *told) {
			stale(h.list(false), 10, 0)
			stale(h.list(false), 9, 0)
			h.r.Faults = []history.Fault{{Kind: "kill-host", Targets: []string{"h1"}, Begin: 16 * time.Second, End: 17 * time.Second}}
		}, ""},
		"a partition is no restart": {func(h *told) {
			stale(h.list(false), 10, 0)
			stale(h.list(false), 9, 0)
			h.r.Faults = []history.Fault{{Kind: "partition", Targets: []string{"h1"}, Begin: 16 * time.Second, End: 17 * time.Second}}
		}, "had shown index 10"},
		"an old description": {func(h *told) {
			h.create(vol, "k1", "id-"+vol)
			h.describe(vol, "a").Index = 10
			h.describe(vol, "b").Index = 11
			stale(h.show(false, vol, "a"), 11, 0)
		}, "older than"},
		"a description that says how old it is": {func(h *told) {
			h.create(vol, "k1", "id-"+vol)
			h.describe(vol, "a").Index = 10
			h.describe(vol, "b").Index = 11
			stale(h.show(false, vol, "a"), 10, time.Hour)
		}, ""},
		"a description that nobody wrote": {func(h *told) {
			h.create(vol, "k1", "id-"+vol)
			h.describe(vol, "a")
			h.show(false, vol, "c")
		}, "nobody wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h told
			tt.plant(&h)
			if tt.want == "" {
				mustPass(t, h.r, Mirrors)
				return
			}
			mustFail(t, h.r, Mirrors, tt.want)
		})
	}
}
