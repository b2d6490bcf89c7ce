package main

import (
	"context"

	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
)

// SetDomain changes settings of a domain.
func (b *backend) SetDomain(ctx context.Context, id string, req api.DomainSet) (api.Domain, error) {
	if err := b.host.SetDomain(ctx, id, spm.Settings{WarnPercent: req.WarnPercent, CriticalFree: req.CriticalFree}); err != nil {
		return api.Domain{}, apiError(err)
	}
	return b.domainNow(id)
}

// withSettings completes a domain as the API shows it.
func withSettings(out api.Domain, st *fsm.State) api.Domain {
	s := host.DomainSettings(st, out.ID)
	out.CriticalFree, out.WarnPercent = s.CriticalBelow(out.Size), spm.DefaultWarnPercent
	if s.WarnPercent != nil {
		out.WarnPercent = *s.WarnPercent
	}
	return out
}

// spaceWarnings says which domains have little space, or too little for what waits for it.
func spaceWarnings(st *fsm.State, add func(severity, subject, next, format string, args ...any)) {
	const next = "delete volumes or add space"
	for _, d := range st.Domains.All() {
		s := host.DomainSettings(st, d.ID)
		critical := s.CriticalBelow(d.Size)
		switch {
		case d.Size <= 0:
			continue
		case d.Waiting > 0:
			add(api.SeverityError, "domain/"+d.Name, next, "out of space: %d extensions wait for %s together, %s are free", d.Waiting,
				formatSize(d.Needed), formatSize(d.Free))
		}
		if d.Free < critical {
			add(api.SeverityError, "domain/"+d.Name, next, "critically little space: %s are free, new volumes are refused below %s",
				formatSize(d.Free), formatSize(critical))
		} else if d.Free < s.WarnBelow(d.Size) {
			add(api.SeverityWarning, "domain/"+d.Name, next, "%d%% of the space is free", d.Free*100/d.Size)
		}
	}
}
