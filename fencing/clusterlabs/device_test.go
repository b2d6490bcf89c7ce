package clusterlabs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestDevice_Status(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		code string
		want fencing.State
		err  error
	}{
		{"on", "echo 'Status: ON'; exit 0", fencing.On, nil},
		{"off", "echo 'Status: OFF'; exit 2", fencing.Off, nil},
		{"off among other lines", "echo hello; echo ' status: off '; exit 2", fencing.Off, nil},
		// The exit status of an interpreter that does not find the agent's library. Nobody is dead because of that.
		{"usage error", "echo \"can't open file\" >&2; exit 2", fencing.Unknown, fencing.ErrGarbage},
		{"says off only to stderr", "echo 'Status: OFF' >&2; exit 2", fencing.Unknown, fencing.ErrGarbage},
		{"says something else", "echo 'Status: OFFLINE'; exit 2", fencing.Unknown, fencing.ErrGarbage},
		{"garbage", "head -c 100000 /dev/urandom; exit 2", fencing.Unknown, fencing.ErrGarbage},
		{"failed", "echo 'Unable to connect/login to fencing device' >&2; exit 1", fencing.Unknown, fencing.ErrFailed},
		{"says off and fails", "echo 'Status: OFF'; exit 1", fencing.Unknown, fencing.ErrFailed},
		{"crashed", "kill -SEGV $$", fencing.Unknown, fencing.ErrFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			st, err := fake(t, tt.code).Status(testutil.Deadline(t))
			if st != tt.want || !errors.Is(err, tt.err) {
				t.Fatalf("%s, %v", st, err)
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestDevice_orders(t *testing.T) {
	t.Parallel()
	ctx := testutil.Deadline(t)
	d := fake(t, `[ "$action" = off ] && exit 0; [ "$action" = on ] && exit 2; echo "no $action"; exit 1`)
	if err := d.Off(ctx); err != nil {
		t.Error(err)
	}
	if err := d.On(ctx); !errors.Is(err, fencing.ErrFailed) {
		t.Errorf("status 2 of an order is a failure: %v", err)
	}
	if err := d.Reset(ctx); !errors.Is(err, fencing.ErrFailed) || !strings.Contains(err.Error(), "no reboot") {
		t.Error(err)
	}
}

// Exit status 0 of off is no proof: the status afterwards is.
func TestDevice_Off_lies(t *testing.T) {
	t.Parallel()
	timing := fencing.Timing{First: time.Millisecond, Longest: time.Millisecond, Polls: 3, OnOrders: 1}
	m, err := fencing.NewMachine("h1", []fencing.Member{
		{Name: "liar", Order: 1, Device: fake(t, `[ "$action" = off ] && echo "Success: Powered OFF"; echo "Status: ON"; exit 0`)},
	}, timing)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Off(testutil.Deadline(t))
	if _, ok := r.Evidence(); ok || !errors.Is(err, fencing.ErrNotConfirmed) {
		t.Fatalf("evidence %v, %v", ok, err)
	}
	if !strings.Contains(r.String(), "Powered OFF") {
		t.Errorf("the record does not show what the agent said: %s", r)
	}
}

// The secret travels on standard input, and comes back nowhere.
func TestDevice_secret(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "seen")
	d := fake(t, `{ echo "$in"; echo ---; tr '\0' ' ' </proc/$$/cmdline; env; } >`+out+`; echo "login with hunter22 failed"; exit 1`)
	_, err := d.Status(testutil.Deadline(t))
	if err == nil || strings.Contains(err.Error(), "hunter22") || !strings.Contains(err.Error(), "***") {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	in, rest, _ := strings.Cut(string(b), "---")
	if in != "action=status\nip=10.0.0.1\nipport=6230\nusername=fence\nplug=7\npassword=hunter22\n" {
		t.Errorf("input %q", in)
	}
	if strings.Contains(rest, "hunter22") || strings.Contains(rest, "10.0.0.1") || !strings.Contains(rest, "PYTHONWARNINGS=ignore") {
		t.Errorf("arguments and environment: %s", rest)
	}
}

func TestDevice_hangs(t *testing.T) {
	t.Parallel()
	d := fencing.Bounded(fake(t, "sleep 1000"), fencing.Limits{Status: 300 * time.Millisecond, Order: 300 * time.Millisecond})
	ctx := testutil.Deadline(t)
	// The metadata come from the same program, so that on a slow machine the time may be over before; it is a timeout either way.
	if st, err := d.Status(ctx); st != fencing.Unknown || !errors.Is(err, fencing.ErrTimeout) {
		t.Errorf("%s, %v", st, err)
	}
	if err := d.Off(ctx); !errors.Is(err, fencing.ErrTimeout) {
		t.Error(err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := d.Off(canceled); !errors.Is(err, context.Canceled) || errors.Is(err, fencing.ErrTimeout) {
		t.Error(err)
	}
}

func TestDevice_noProgram(t *testing.T) {
	t.Parallel()
	c, err := NewCatalog([]string{t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(c, Config{Agent: "fence_absent"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Status(t.Context()); !errors.Is(err, fencing.ErrNoProgram) {
		t.Error(err)
	}
	if _, _, err := c.find("../../bin/sh"); !errors.Is(err, fencing.ErrConfig) {
		t.Error(err)
	}
	if _, err := NewCatalog([]string{"sbin"}); !errors.Is(err, fencing.ErrConfig) {
		t.Error(err)
	}
}

// An agent of a fabric cuts a port, not the power.
func TestDevice_fabricAgent(t *testing.T) {
	t.Parallel()
	meta := strings.ReplaceAll(metadataText, `<action name="reboot" />`, "")
	d, err := New(agent(t, "fence_fake", meta, "echo 'Status: OFF'; exit 2"), Config{Agent: "fence_fake", Address: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := d.Status(testutil.Deadline(t)); st != fencing.Unknown || !errors.Is(err, fencing.ErrConfig) {
		t.Errorf("%s, %v", st, err)
	}
}

func TestCatalog_cache(t *testing.T) {
	t.Parallel()
	c := agent(t, "fence_fake", metadataText, "exit 1")
	ctx := testutil.Deadline(t)
	asked := func() int {
		b, _ := os.ReadFile(filepath.Join(c.dirs[1], "asked"))
		return strings.Count(string(b), "\n")
	}
	for range 3 {
		if m, err := c.Metadata(ctx, "fence_fake"); err != nil || m.Name != "fence_fake" {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if asked() != 1 {
		t.Errorf("asked %d times", asked())
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(c.dirs[1], "fence_fake"), later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Metadata(ctx, "fence_fake"); err != nil || asked() != 2 {
		t.Errorf("an upgraded agent was asked %d times, %v", asked(), err)
	}
}

func TestCatalog_garbage(t *testing.T) {
	t.Parallel()
	for name, meta := range map[string]string{
		"empty": "", "no XML": "Usage: fence_fake", "other XML": "<html></html>", "cut": metadataText[:500],
		"nothing in it": "<resource-agent name='x'></resource-agent>",
	} {
		c := agent(t, "fence_fake", meta, "exit 0")
		if _, err := c.Metadata(testutil.Deadline(t), "fence_fake"); !errors.Is(err, fencing.ErrGarbage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
