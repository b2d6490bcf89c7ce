package safe

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// MaxTime bounds a run.
const MaxTime = time.Hour

// ErrRefused says that the pool must not be hurt.
var ErrRefused = errors.New("no fault was injected")

// Check refuses a pool that was not made for tests, and one that is not well: that faults would make it worse.
func Check(s api.Status) error {
	switch {
	case !s.Member:
		return fmt.Errorf("%w: host %s belongs to no pool", ErrRefused, s.Host)
	case !s.Pool.TestPool:
		return fmt.Errorf("%w: pool %s is not a test pool; only one that was made with 'holdfast init --test-pool' may be hurt", ErrRefused, s.Pool.Name)
	}
	if err := well(s); err != nil {
		return fmt.Errorf("%w: the pool is not well: %w; see 'holdfast status'", ErrRefused, err)
	}
	return nil
}

// CheckTime refuses a run that is too short to measure anything or longer than MaxTime.
func CheckTime(d time.Duration) error {
	if d < time.Second || d > MaxTime {
		return fmt.Errorf("a run lasts between a second and %s, not %s", MaxTime, d)
	}
	return nil
}

// well says what is missing until a pool can take the next fault.
func well(s api.Status) error {
	if s.SPM.State != api.SPMServing {
		return fmt.Errorf("the SPM is %s %s", s.SPM.State, s.SPM.Reason)
	}
	if !s.Raft.Quorum || s.Raft.Leader == "" {
		return errors.New("there is no quorum")
	}
	if len(s.Hosts) < 2 {
		return errors.New("it has one host only; nobody can take a role over")
	}
	for _, h := range s.Hosts {
		if h.State != api.HostUp || !h.Alive {
			return fmt.Errorf("host %s is %s %s", h.Name, h.State, h.Reason)
		}
	}
	return nil
}
