package manager

import (
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// DefaultPolicy returns the times for a pool profile: dev, fast, or anything else for compatible.
func DefaultPolicy(profile string) Policy {
	p := Policy{
		Grace: 10 * time.Second, FenceLiveAfter: 5 * time.Minute, FenceQuiet: 3 * time.Minute,
		YieldAfter: 3 * time.Second, YieldWait: 5 * time.Second,
		StartTimeout: 30 * time.Second, StopTimeout: 20 * time.Second, ReleaseAfter: 2 * time.Second,
		TroubleAfter: 30 * time.Second, OutreachAfter: 10 * time.Second,
	}
	lp := leases.Compatible
	switch profile {
	case leases.Dev.Name:
		lp = leases.Dev
		p.Grace, p.FenceLiveAfter, p.FenceQuiet, p.FenceOthers = time.Second, 12*time.Second, 5*time.Second, true
		p.YieldAfter, p.YieldWait = 900*time.Millisecond, 3*time.Second
		p.UnprotectedTakeover = true // the supervisor is the watchdog
		p.TroubleAfter, p.OutreachAfter = 5*time.Second, 1500*time.Millisecond
		p.StartTimeout, p.StopTimeout, p.ReleaseAfter = 10*time.Second, 5*time.Second, 600*time.Millisecond
	case leases.Fast.Name:
		lp = leases.Fast
		p.YieldAfter, p.YieldWait = 900*time.Millisecond, 3*time.Second
		p.Grace, p.FenceQuiet, p.ReleaseAfter = 3*time.Second, time.Minute, time.Second
		p.TroubleAfter, p.OutreachAfter = 10*time.Second, 1500*time.Millisecond
	}
	p.Domains = DefaultDomainPolicy(lp)
	p.LeaseLife = lp.Expiry()
	p.RenewPeriod = lp.RenewalPeriod()
	p.SilentAfter = 3 * p.RenewPeriod
	return p
}
