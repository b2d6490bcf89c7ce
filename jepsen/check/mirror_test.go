package check

import (
	"slices"
	"testing"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

func TestMirrored(t *testing.T) {
	t.Parallel()
	const none = "00000000-0000-0000-0000-000000000000"
	good := func() []api.Volume {
		return []api.Volume{
			{ID: "v1", Image: "i1", Name: "one", Slot: 1, Allocated: 10, Epoch: 1},
			{ID: "v2", Image: "i2", Name: "two", Slot: 2, Allocated: 20, Epoch: 1, Parent: "v1"},
		}
	}
	disk := []LV{{Name: "ids"}, {Name: "v1", Tags: []string{"IU_i1", "PU_" + none, "MD_1"}, Size: 10}, {Name: "v2", Tags: []string{"IU_i2", "PU_v1", "MD_2"}, Size: 20}}
	tests := []struct {
		name string
		do   func(b []api.Volume) []api.Volume // to what host b lists
		want string
	}{
		{"equal", slices.Clone[[]api.Volume], ""},
		{"one is missing", func(b []api.Volume) []api.Volume { return b[:1] }, "b does not list it"},
		{"one too many", func(b []api.Volume) []api.Volume { return append(b, api.Volume{ID: "v3"}) }, "not on the LUN"},
		{"one twice", func(b []api.Volume) []api.Volume { return append(b, b[0]) }, "listed twice"},
		{"another slot", func(b []api.Volume) []api.Volume { b[1].Slot = 7; return b }, "MD_7"},
		{"another parent", func(b []api.Volume) []api.Volume { b[1].Parent = ""; return b }, "PU_" + none},
		{"another size", func(b []api.Volume) []api.Volume { b[0].Allocated++; return b }, "11 bytes"},
		{"another description", func(b []api.Volume) []api.Volume { b[0].Description = "x"; return b }, "a and b differ"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, v := range map[string]any{LVsFile: disk, VolumesFile("a"): good(), VolumesFile("b"): tt.do(good())} {
				if err := writeJSON(dir, name, v); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, Mirrored(Record{Folder: dir, Run: history.Run{Hosts: []string{"a", "b"}}}), tt.want)
		})
	}
	t.Run("a host that gave no list", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := writeJSON(dir, LVsFile, disk); err != nil {
			t.Fatal(err)
		}
		expect(t, Mirrored(Record{Folder: dir, Run: history.Run{Hosts: []string{"a"}}}), "volumes-a.json")
	})
}
