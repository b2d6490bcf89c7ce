package check

import (
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

func op(kind, key string, o history.Outcome, in, out string) history.Op {
	return history.Op{Kind: kind, Key: key, Outcome: o, Input: []byte(in), Output: []byte(out)}
}

func TestSpace(t *testing.T) {
	t.Parallel()
	const extent = 128 << 20
	lv := func(name string, extents ...int64) LV {
		v := LV{Name: name, Tags: []string{"MD_1"}, Size: extent * int64(len(extents))}
		for _, at := range extents {
			v.Segments = append(v.Segments, Area{Off: at * extent, Len: extent})
		}
		return v
	}
	ops := []history.Op{
		op(history.VolumeCreate, "n", history.OK, `{"format":"qcow2","size":2147483648,"initial":67108864}`, `{"id":"v"}`),
		op(history.VolumeExtend, "n", history.OK, `{"size":268435456}`, `{"id":"v"}`),
		op(history.VolumeExtend, "n", history.Unknown, `{"size":402653184}`, ``),
		op(history.VolumeCreate, "g", history.OK, `{"format":"qcow2","size":1073741824,"initial":104857600}`, `{"id":"w"}`),
		op(history.GuestWrite, "w", history.OK, `{"block":1000}`, `{}`),
	}
	for name, c := range map[string]struct {
		free int64
		lvs  []LV
		want string
	}{
		"as asked":              {5, []LV{lv("v", 1, 2), lv("w", 3)}, ""},
		"what may have come":    {4, []LV{lv("v", 1, 2, 4), lv("w", 3)}, ""},
		"leaked":                {4, []LV{lv("v", 1, 2), lv("w", 3)}, "1 are leaked"},
		"two owners":            {5, []LV{lv("v", 1, 2), lv("w", 2)}, "is of v and of w"},
		"an extension lost":     {6, []LV{lv("v", 1), lv("w", 3)}, "268435456 were promised"},
		"more than asked":       {3, []LV{lv("v", 1, 2, 4, 5), lv("w", 3)}, "nobody asked for more than 402653184"},
		"a guest's, a chunk":    {4, []LV{lv("v", 1, 2), lv("w", 3, 4)}, ""},
		"a guest's, three more": {2, []LV{lv("v", 1, 2), lv("w", 3, 4, 5, 6)}, "volume w has"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Record{Folder: t.TempDir(), Ops: ops}
			for file, v := range map[string]any{VGFile: VG{ExtentSize: extent, Extents: 8, Free: c.free}, LVsFile: c.lvs} {
				if err := writeJSON(r.Folder, file, v); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, Space(r), c.want)
		})
	}
}

func TestParseVGS(t *testing.T) {
	t.Parallel()
	vg, err := parseVGS([]byte(`{"report":[{"vg":[{"vg_extent_size":"134217728","vg_extent_count":"510","vg_free_count":"17"}]}]}`))
	if err != nil || vg != (VG{134217728, 510, 17}) {
		t.Errorf("%+v %v", vg, err)
	}
	for _, bad := range []string{`{}`, `{"report":[{"vg":[{}]}]}`, `x`} {
		if _, err := parseVGS([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestPauses(t *testing.T) {
	t.Parallel()
	sample := func(s, grown, pauses int) history.Sample {
		return history.Sample{At: time.Duration(s) * time.Second, Host: "a", Growth: &history.Growth{Grown: grown, Took: time.Second, Pauses: pauses, Paused: time.Duration(pauses) * time.Second}}
	}
	fault := history.Fault{Kind: "net.one", Begin: 50 * time.Second, End: 60 * time.Second}
	for name, c := range map[string]struct {
		samples []history.Sample
		want    string
	}{
		"none":                {[]history.Sample{sample(1, 1, 0), sample(2, 3, 0)}, ""},
		"in a fault":          {[]history.Sample{sample(1, 1, 0), sample(54, 3, 0), sample(55, 3, 2)}, ""},
		"in none":             {[]history.Sample{sample(1, 1, 0), sample(2, 3, 1)}, "and no fault was near"},
		"after a new agent":   {[]history.Sample{sample(1, 4, 0), sample(54, 4, 2), sample(55, 1, 0), sample(80, 2, 0)}, ""},
		"before the fault":    {[]history.Sample{sample(1, 4, 0), sample(40, 4, 2)}, "and no fault was near"},
		"nothing ever needed": {[]history.Sample{sample(1, 0, 0)}, "nothing was proved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, Pauses(Record{Samples: c.samples, Faults: []history.Fault{fault}, Run: history.Run{Lasted: 2 * time.Minute}}), c.want)
		})
	}
}

func TestMailbox(t *testing.T) {
	t.Parallel()
	slot := func(host, spm string) api.Mailbox {
		return api.Mailbox{Domain: "d", Hosts: []api.MailboxHost{{HostID: 2, Slots: []api.MailboxSlot{{Slot: 5, Host: api.MailboxSide{State: host}, SPM: api.MailboxSide{State: spm}}}}}}
	}
	for name, c := range map[string]struct {
		m    api.Mailbox
		want string
	}{
		"empty":          {api.Mailbox{Domain: "d"}, ""},
		"clean":          {slot(api.SlotEmpty, api.SlotClean), ""},
		"unanswered":     {slot(api.SlotMessage, api.SlotEmpty), "slot 5"},
		"not taken":      {slot(api.SlotClean, api.SlotMessage), "slot 5"},
		"another domain": {api.Mailbox{Domain: "e"}, "is of domain"},
		"damaged":        {api.Mailbox{Domain: "d", Hosts: []api.MailboxHost{{HostID: 1, Error: "torn"}}}, "torn"},
	} {
		r := Record{Folder: t.TempDir(), Run: history.Run{Domain: "d"}}
		if err := writeJSON(r.Folder, MailboxFile, c.m); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { t.Parallel(); expect(t, Mailbox(r), c.want) })
	}
}
