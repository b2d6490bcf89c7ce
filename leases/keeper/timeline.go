package keeper

import (
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// timeline says when what happens to the users of a lockspace that could not be renewed. Everything is counted from
// the start of the last renewal that landed, so that a keeper that was stopped meanwhile finds the step that is due.
//
//	8N - N/2         guards fail (the margin of package leases)
//	8N               the lockspace is failed: the agent is told, tied processes get SIGTERM, each second
//	8N + 2W/3        SIGKILL, each second             (40 s of 60, as sanlock; 6.7 s of 10)
//	8N + 3W/4        SIGKILL for the agent, unless it has said that its I/O is back
//	8N + W - W/6     from here on the watchdog fires  (see package watchdog)
//	8N + W           other hosts take the leases
type timeline struct {
	profile leases.Profile
	failed  time.Duration // boot time of the failure: 8N after the last renewal, or sooner when the record was overwritten
}

// grace is the time from SIGTERM to SIGKILL: two thirds of W. Sanlock has 40 s of 60 too, and none below 30.
func (t timeline) grace() time.Duration { return t.profile.Watchdog * 2 / 3 }

// patience is the time from the failure to the end of an agent that does not confirm.
func (t timeline) patience() time.Duration { return t.profile.Watchdog * 3 / 4 }

// signalEvery is the pause between two signals: a second, less where W is short.
func (t timeline) signalEvery() time.Duration { return min(time.Second, t.profile.Watchdog/10) }

// killAt is the boot time from which tied processes get SIGKILL.
func (t timeline) killAt() time.Duration { return t.failed + t.grace() }

// agentKillAt is the boot time from which the agent gets SIGKILL.
func (t timeline) agentKillAt() time.Duration { return t.failed + t.patience() }

// over is the boot time by which everything is gone or the machine is reset.
func (t timeline) over() time.Duration { return t.failed + t.profile.Watchdog }
