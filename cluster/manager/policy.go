package manager

import (
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// DefaultPolicy returns the times for a pool profile: dev, fast, or anything else for compatible.
func DefaultPolicy(profile string) Policy {
	p := Policy{
		Grace: 30 * time.Second, GraceSPM: 20 * time.Second, GracePerUse: 500 * time.Millisecond, FenceLiveAfter: 5 * time.Minute, FenceQuiet: 3 * time.Minute,
		YieldAfter: 3 * time.Second, YieldWait: 5 * time.Second,
		Fencing: true, FenceOthers: true, SkipIfLive: true, SkipIfHalfDead: true, RestartAfterOff: true,
		SoftWait: time.Minute, KdumpStart: 30 * time.Second, KdumpLimit: 10 * time.Minute, RebootWait: 10 * time.Minute,
		StartTimeout: 30 * time.Second, StopTimeout: 20 * time.Second, ReleaseAfter: 2 * time.Second,
		TroubleAfter: 30 * time.Second, OutreachAfter: 10 * time.Second,
	}
	lp := leases.Compatible
	switch profile {
	case leases.Dev.Name:
		lp = leases.Dev
		p.Grace, p.GraceSPM, p.GracePerUse, p.FenceLiveAfter, p.FenceQuiet = time.Second, 0, 0, 12*time.Second, 5*time.Second
		p.SoftWait, p.KdumpStart, p.RebootWait = 5*time.Second, 2*time.Second, 30*time.Second
		p.YieldAfter, p.YieldWait = 900*time.Millisecond, 3*time.Second
		p.UnprotectedTakeover = true // the supervisor is the watchdog
		p.TroubleAfter, p.OutreachAfter = 5*time.Second, 1500*time.Millisecond
		p.StartTimeout, p.StopTimeout, p.ReleaseAfter = 10*time.Second, 5*time.Second, 600*time.Millisecond
	case leases.Fast.Name:
		lp = leases.Fast
		p.YieldAfter, p.YieldWait = 900*time.Millisecond, 3*time.Second
		p.Grace, p.GraceSPM, p.GracePerUse, p.FenceQuiet, p.ReleaseAfter = 3*time.Second, 0, 0, time.Minute, time.Second
		p.SoftWait, p.KdumpStart = 20*time.Second, 10*time.Second
		p.TroubleAfter, p.OutreachAfter = 10*time.Second, 1500*time.Millisecond
	}
	p.Domains = DefaultDomainPolicy(lp)
	p.LeaseLife = lp.Expiry()
	p.RenewPeriod = lp.RenewalPeriod()
	p.SilentAfter = 3 * p.RenewPeriod
	p.DeadAfter = lp.HostDead() + 2*p.RenewPeriod
	return p
}
