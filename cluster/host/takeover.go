package host

import "github.com/holdfast-io/holdfast/cluster/manager"

// UnprotectedTakeover says whether the death by the clock of a host without a watchdog counts in a pool of the profile: by
// this host's configuration, or else as the profile has it.
func (h *Host) UnprotectedTakeover(profile string) bool {
	if set := h.cfg.UnprotectedTakeover; set != "" {
		return set == "allow"
	}
	return manager.DefaultPolicy(profile).UnprotectedTakeover
}
