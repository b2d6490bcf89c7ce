package leases

import (
	"fmt"
	"time"
)

// Profile is the pair of times that all hosts of a pool must share.
type Profile struct {
	Name string `json:"name"`
	// IOTimeout is N: whole seconds, 1 to 255. It is stored on disk.
	IOTimeout time.Duration `json:"io_timeout"`
	// Watchdog is W: how long after its lease expired a host may still be running. It is not stored anywhere, so
	// every host must be told the same. Hosts that run sanlock up to 3.8.5 use 60 s.
	Watchdog time.Duration `json:"watchdog"`
}

var (
	// Compatible is for pools that sanlock hosts take part in.
	Compatible = Profile{Name: "compatible", IOTimeout: 10 * time.Second, Watchdog: 60 * time.Second}
	// Fast is for pools of Holdfast hosts only.
	Fast = Profile{Name: "fast", IOTimeout: 2 * time.Second, Watchdog: 10 * time.Second}
	// Dev is for `holdfast dev`, where the supervisor is the watchdog. Not for real data.
	Dev = Profile{Name: "dev", IOTimeout: time.Second, Watchdog: 2 * time.Second}
)

// ProfileByName finds one of the three profiles.
func ProfileByName(name string) (Profile, error) {
	for _, p := range []Profile{Compatible, Fast, Dev} {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("no profile %q: use compatible, fast or dev", name)
}

// Validate refuses times that cannot be stored or that leave no room for the watchdog.
func (p Profile) Validate() error {
	if p.IOTimeout < time.Second || p.IOTimeout > 255*time.Second || p.IOTimeout%time.Second != 0 {
		return fmt.Errorf("I/O timeout %v: use whole seconds from 1 to 255", p.IOTimeout)
	}
	if p.Watchdog <= 0 {
		return fmt.Errorf("watchdog time %v: it must be positive and the same on all hosts", p.Watchdog)
	}
	return nil
}

// RenewalPeriod is the time from one renewal to the next when all goes well: 2N and half a second.
func (p Profile) RenewalPeriod() time.Duration { return 2*p.IOTimeout + renewalSlack }

// Expiry is the time after the start of a renewal write at which the lease is no longer usable by its holder: 8N.
func (p Profile) Expiry() time.Duration { return 8 * p.IOTimeout }

// HostDead is the time after which a silent host counts as dead: 8N + W.
func (p Profile) HostDead() time.Duration { return p.Expiry() + p.Watchdog }

// SurelyDead is how long a host must have been seen silent to be DEAD: HostDead, and what clocks may be wrong by.
func (p Profile) SurelyDead() time.Duration { return surely(p.HostDead()) }

// surely is how long we wait by our clock for d to have passed by that of any other host: each may be wrong by 500 ppm.
func surely(d time.Duration) time.Duration { return d + d/1000 }

// Margin is how much earlier than 8N a holder stops using its lease: half of N.
func (p Profile) Margin() time.Duration { return p.IOTimeout / 2 }

// seconds is N as it is stored on disk.
func (p Profile) seconds() uint16 { return uint16(p.IOTimeout / time.Second) }

const renewalSlack = 500 * time.Millisecond
