package manager

import "time"

// DefaultPolicy returns the times of a pool profile: dev, fast, or anything else for compatible.
func DefaultPolicy(profile string) Policy {
	p := Policy{
		Grace: 10 * time.Second, SilentAfter: 50 * time.Second, FenceLiveAfter: 5 * time.Minute,
		FenceQuiet: 3 * time.Minute, StartTimeout: 30 * time.Second, StopTimeout: 20 * time.Second, ReleaseAfter: 2 * time.Second,
	}
	switch profile {
	case "dev":
		p.Grace, p.SilentAfter, p.FenceLiveAfter = time.Second, 3*time.Second, 5*time.Second
		p.FenceQuiet, p.FenceOthers = 5*time.Second, true
		p.StartTimeout, p.StopTimeout, p.ReleaseAfter = 10*time.Second, 5*time.Second, 600*time.Millisecond
	case "fast":
		p.Grace, p.SilentAfter = 3*time.Second, 10*time.Second
		p.FenceQuiet, p.ReleaseAfter = time.Minute, time.Second
	}
	return p
}
