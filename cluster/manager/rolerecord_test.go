package manager

import (
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// A LUN that is gone for all leaves nobody to read the lease; the mirror must not go on saying that somebody serves.
func TestDenied(t *testing.T) {
	t.Parallel()
	serving := fsm.SPM{Host: "h1", State: fsm.SPMServing}
	host := func(reachable bool, state string, since time.Duration) *Inputs {
		return &Inputs{Policy: DefaultPolicy("dev"), Hosts: []Host{{Name: "h1", Reachable: reachable, Role: Role{State: state}, RoleFor: since}}}
	}
	for name, c := range map[string]struct {
		in   *Inputs
		spm  fsm.SPM
		want bool
	}{
		"says none for long":      {host(true, RoleNone, time.Minute), serving, true},
		"says none just now":      {host(true, RoleNone, time.Millisecond), serving, false},
		"does not answer":         {host(false, RoleNone, time.Minute), serving, false},
		"says that it serves":     {host(true, "serving", time.Minute), serving, false},
		"nobody was recorded":     {host(true, RoleNone, time.Minute), fsm.SPM{State: fsm.SPMNone}, false},
		"another one is recorded": {host(true, RoleNone, time.Minute), fsm.SPM{Host: "h2", State: fsm.SPMServing}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := denied(c.in, c.spm); got != c.want {
				t.Fatalf("got %v", got)
			}
		})
	}
}
