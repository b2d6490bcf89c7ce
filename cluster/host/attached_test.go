package host

import (
	"testing"

	"github.com/holdfast-io/holdfast/leases"
)

func TestHolds(t *testing.T) {
	t.Parallel()
	mine := leases.ResourceInfo{State: leases.ResourceExclusive, Owner: 3, Generation: 7}
	for name, tc := range map[string]struct {
		change func(*leases.ResourceInfo)
		want   bool
	}{
		"ours":             {func(*leases.ResourceInfo) {}, true},
		"free":             {func(i *leases.ResourceInfo) { i.State = leases.ResourceFree }, false},
		"another host's":   {func(i *leases.ResourceInfo) { i.Owner = 4 }, false},
		"of a life before": {func(i *leases.ResourceInfo) { i.Generation = 6 }, false},
		"shared with us": {func(i *leases.ResourceInfo) {
			*i = leases.ResourceInfo{Sharers: []leases.Sharer{{HostID: 3, Generation: 7}}}
		}, true},
		"shared by a life before": {func(i *leases.ResourceInfo) {
			*i = leases.ResourceInfo{Sharers: []leases.Sharer{{HostID: 3, Generation: 6}}}
		}, false},
		"shared by others only": {func(i *leases.ResourceInfo) {
			*i = leases.ResourceInfo{Sharers: []leases.Sharer{{HostID: 4, Generation: 7}}}
		}, false},
	} {
		info := mine
		tc.change(&info)
		if got := holds(info, 3, 7); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
