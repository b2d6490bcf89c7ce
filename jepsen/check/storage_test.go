package check

import (
	"testing"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// An empty folder has proved nothing, to none of them.
func TestStorage_nothingIsNoPass(t *testing.T) {
	t.Parallel()
	for _, c := range Storage() {
		if v := c(Record{Folder: t.TempDir(), Run: history.Run{Hosts: []string{"a"}}}); v.OK || len(v.Faults) == 0 || v.Checker == "" || v.Summary == "" {
			t.Errorf("%+v", v)
		}
	}
}
