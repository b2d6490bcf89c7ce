package pool

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// An SPM that is stopped for longer than its lease is reset by its watchdog before another host may take the role, starts again, and
// is well. Others are left alone.
func TestWatchdog_resetsStoppedSPM(t *testing.T) {
	t.Parallel()
	needRoot(t)
	p := formed(t, 3, func(c *Config) { c.Watchdog = true })
	ctx := deadline(t, 100*time.Second)
	st, _, err := p.Client("h1").Status(ctx, client.Read{})
	must(t, err)
	spm := st.SPM.Host
	other := "h1"
	if spm == other {
		other = "h2"
	}
	agent, _ := p.Pids(spm)
	must(t, p.Pause(spm, Both))
	must(t, poll(ctx, "another host is SPM", func() error {
		s, _, err := p.Client(other).SPM(ctx, client.Read{})
		if err == nil && (s.Host == spm || s.State != api.SPMServing) {
			err = errors.New(s.Host + " is " + s.State)
		}
		return err
	}))
	if !gone(agent) {
		t.Error("the stopped host was still there when another one took the role")
	}
	resets := p.Resets()
	if len(resets) != 1 || resets[0].Host != spm {
		t.Errorf("resets: %+v, want one of %s", resets, spm)
	}
	up(t, p)
	if slices.ContainsFunc(p.Exits(), func(e Exit) bool { return !e.Told }) {
		t.Errorf("a reset counts as a death: %v", p.Exits())
	}
}

// The watchdog of a keeper that was killed fires later, however well its host is by then. Who waits for that does not look too early.
func TestWatchdog_orphaned(t *testing.T) {
	t.Parallel()
	needRoot(t)
	p := formed(t, 1, func(c *Config) { c.Watchdog = true })
	ctx := deadline(t, 60*time.Second)
	must(t, p.AwaitDogs(ctx)) // of a healthy host there is none
	if r := p.Resets(); len(r) != 0 {
		t.Errorf("a healthy host was reset: %+v", r)
	}
	must(t, p.Kill("h1", Keeper))
	must(t, poll(ctx, "the watchdog has noticed", func() error {
		if !p.hosts[0].dog.orphaned() && len(p.Resets()) == 0 {
			return errors.New("not yet")
		}
		return nil
	}))
	must(t, p.AwaitDogs(ctx))
	if r := p.Resets(); len(r) != 1 {
		t.Errorf("resets: %+v, want one", r)
	}
	up(t, p)
}
