package pool

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// An SPM whose agent hangs, so that it cannot be asked to hand over, is switched off by the others, the role goes on at once, and the host comes back.
func TestFences_hungSPM(t *testing.T) {
	t.Parallel()
	needRoot(t)
	p := formed(t, 3, func(c *Config) { c.Fencing = true })
	ctx := deadline(t, 100*time.Second)
	st, _, err := p.Client("h1").Status(ctx, client.Read{})
	must(t, err)
	spm := st.SPM.Host
	other := "h1"
	if spm == other {
		other = "h2"
	}
	agent, _ := p.Pids(spm)
	must(t, p.Pause(spm, Agent))
	must(t, poll(ctx, "another host is SPM", func() error {
		s, _, err := p.Client(other).SPM(ctx, client.Read{})
		if err == nil && (s.Host == spm || s.State != api.SPMServing) {
			err = errors.New(s.Host + " is " + s.State)
		}
		return err
	}))
	if !gone(agent) {
		t.Error("the host that hung was still there when another one took the role")
	}
	if f := p.Fenced(); len(f) == 0 || f[0].Host != spm {
		t.Errorf("switched off: %+v, want %s", f, spm)
	}
	up(t, p)
}
