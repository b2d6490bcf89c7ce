package fsm

import "strconv"

// Keys of ConfigSet that the manager and its callers share. This package reads ConfigDisarmedUntil and
// ConfigMasterConfirmed only.
const (
	ConfigFencingEnabled = "fencing.enabled"           // "true" (default) or "false"
	ConfigFencingGrace   = "fencing.grace"             // duration; default by profile
	ConfigDisarmedUntil  = "fencing.disarmed_until"    // unix nanoseconds; no fencing before, unless a person asks
	ConfigDisarmedBy     = "fencing.disarmed_by"       // who disarmed
	ConfigSkipIfLive     = "fencing.skip_if_live"      // "true" (default): not while the storage lease is LIVE
	ConfigSkipIfHalfDead = "fencing.skip_if_half_dead" // "true" (default): not while half the hosts look dead
	ConfigFencingQuiet   = "fencing.quiet"             // duration between two power actions on a host; default "180s"
	ConfigFencingRestart = "fencing.restart"           // "true" (default): a host that was fenced is switched on again
	ConfigPowersave      = "powersave.enabled"         // "false" (default) or "true"
	ConfigPowersaveSpare = "powersave.reserve"         // spare hosts that stay up; default "0"
	// ConfigMasterConfirmed is the last mark of an SPM that asked whether its master is the pool's still; each is another value.
	ConfigMasterConfirmed = "master.confirmed"
	ConfigPowersaveIdle   = "powersave.idle" // duration that a host must be empty; default "20m"
)

// disarmedUntil reads when fencing is allowed again; 0 when it is. A value that is no time disarms: somebody meant to.
func disarmedUntil(value string) (int64, bool) {
	if value == "" {
		return 0, true
	}
	until, err := strconv.ParseInt(value, 10, 64)
	return until, err == nil
}

// DisarmedUntil is until when nothing is fenced by itself (unix nanoseconds, 0 when never disarmed). It is false when the
// recorded value is no time, which disarms too.
func (s *State) DisarmedUntil() (int64, bool) {
	value, _ := s.Config.Get(ConfigDisarmedUntil)
	return disarmedUntil(value)
}
