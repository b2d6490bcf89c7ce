package clusterlabs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// patient bounds calls of real agents on a machine that is busy with other tests.
var patient = fencing.Limits{Status: 2 * time.Minute, Order: 2 * time.Minute}

// dummy is the project's own agent for tests, whose power is a file.
func dummy(t *testing.T, parameters map[string]string) *Device {
	t.Helper()
	testutil.NeedTool(t, "fence_dummy")
	c, err := NewCatalog(DefaultDirs())
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(c, Config{Agent: "fence_dummy", Parameters: parameters})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFenceDummy(t *testing.T) {
	t.Parallel()
	// White space at the end must reach the agent: it is part of the name of the file.
	file := filepath.Join(t.TempDir(), "status ")
	d := dummy(t, map[string]string{"status_file": file})
	if w, err := d.Warnings(t.Context()); err != nil || len(w) != 0 {
		t.Fatalf("%v, %v", w, err)
	}
	m, err := fencing.NewMachine("h1", []fencing.Member{{Name: "dummy", Device: fencing.Bounded(d, patient)}}, fencing.DefaultTiming())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if r, err := m.Off(ctx); err != nil || !r.Skipped {
		t.Fatalf("already off: %v, %s", err, r)
	}
	if r, err := m.On(ctx); err != nil || r.Skipped {
		t.Fatalf("%v, %s", err, r)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	r, err := m.Restart(ctx)
	if ev, ok := r.Evidence(); err != nil || !ok || !strings.Contains(ev.Detail, "Status: OFF") {
		t.Fatalf("%v, %s", err, r)
	}
	if st, _, err := m.Status(ctx); err != nil || st != fencing.On {
		t.Fatalf("%s, %v", st, err)
	}
	if h := m.Health(ctx); !h.Off || !h.On {
		t.Fatalf("%+v", h)
	}
}

func TestFenceDummy_fails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(file, []byte("on"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := fencing.Bounded(dummy(t, map[string]string{"status_file": file, "type": "fail", "power_timeout": "1"}), patient)
	if err := d.Off(t.Context()); !errors.Is(err, fencing.ErrFailed) {
		t.Error(err)
	}
	if st, err := d.Status(t.Context()); st != fencing.On {
		t.Errorf("%s, %v", st, err)
	}
}

// Real agents say of themselves what we can read.
func TestCatalog_realAgents(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "fence_ipmilan", "fence_redfish", "fence_apc", "fence_scsi")
	c, err := NewCatalog(DefaultDirs())
	if err != nil {
		t.Fatal(err)
	}
	for name, switches := range map[string]bool{"fence_ipmilan": true, "fence_redfish": true, "fence_apc": true, "fence_scsi": false} {
		m, err := c.Metadata(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := m.switchesPower() == nil; got != switches {
			t.Errorf("%s switches power: %v", name, got)
		}
	}
}
