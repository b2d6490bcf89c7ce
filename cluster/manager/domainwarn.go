package manager

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Kinds of events that warn of a domain, and those that say that it is over. A family has one word at a time.
const (
	warnLowSpace      = "domain.space_low"
	warnCriticalSpace = "domain.space_critical"
	clearSpace        = "domain.space_enough"
	warnMetadata      = "domain.metadata_nearly_full"
	clearMetadata     = "domain.metadata_room"
	warnSlow          = "domain.slow"
	clearSlow         = "domain.not_slow"
	warnLate          = "domain.renewals_late"
	clearLate         = "domain.renewals_in_time"
)

// warnFamilies names, for each kind, the one that ends it.
var warnFamilies = map[string]string{
	warnLowSpace: clearSpace, warnCriticalSpace: clearSpace, clearSpace: clearSpace, warnMetadata: clearMetadata, clearMetadata: clearMetadata,
	warnSlow: clearSlow, clearSlow: clearSlow, warnLate: clearLate, clearLate: clearLate,
}

// warnKey is what a warning is about: a family, a domain, and a host for what concerns one host.
type warnKey struct{ family, domain, host string }

// warned is what was said last, and when this term said it.
type warned struct {
	kind string
	at   time.Time
}

// warnEvery is the least time between two events of one family about one thing.
const warnEvery = 30 * time.Second

// metadataFull is the share of the metadata area, in percent, above which there is a warning; below metadataRoom it is over.
const (
	metadataFull = 90
	metadataRoom = 85
)

// SpaceLimits are the free bytes of a domain below which there is a warning, and no new volumes are made.
type SpaceLimits struct{ Warn, Critical int64 }

// warnDomains records what people should know of domains, once when it begins and once when it ends.
func (t *term) warnDomains(view *fsm.State, inputs []DomainInput) {
	if t.domains.warned == nil {
		t.domains.warned = standing(view)
	}
	for _, in := range inputs {
		d, ok := view.Domains.Get(in.ID)
		if !ok || in.Status == fsm.DomainMaintenance || in.Status == fsm.DomainPreparing {
			continue
		}
		t.warnSpace(view, d)
		for _, r := range t.reportsOn(in.ID) {
			t.warnHost(d, r.host, &r.DomainReport)
		}
	}
}

// standing reads from the history which warnings stand: whoever led then, they are not said again.
func standing(view *fsm.State) map[warnKey]warned {
	out := map[warnKey]warned{}
	for _, e := range view.Events() {
		if family, ok := warnFamilies[e.Kind]; ok {
			out[warnKey{family, e.Subject, e.Host}] = warned{kind: e.Kind}
		}
	}
	return out
}

// hostReport is what a host that answers said of a domain last.
type hostReport struct {
	host string
	DomainReport
}

// reportsOn is what each host that answers said of a domain last.
func (t *term) reportsOn(id string) []hostReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]hostReport, 0, len(t.hosts))
	for name, s := range t.hosts {
		if d, ok := s.domains[id]; ok && s.reachable && !d.lookedAt.IsZero() {
			out = append(out, hostReport{name, d.report})
		}
	}
	return out
}

// warnSpace compares free space with the limits. The way back is a hundredth of the size longer.
func (t *term) warnSpace(view *fsm.State, d fsm.Domain) {
	if t.m.cfg.Limits == nil || d.Size <= 0 {
		return
	}
	limits := t.m.cfg.Limits(view, d)
	was, back := t.domains.warned[warnKey{clearSpace, d.ID, ""}].kind, d.Size/100
	kind := clearSpace
	switch {
	case d.Free < limits.Critical, was == warnCriticalSpace && limits.Critical > 0 && d.Free < limits.Critical+back:
		kind = warnCriticalSpace
	case d.Free < limits.Warn, was != "" && was != clearSpace && limits.Warn > 0 && d.Free < limits.Warn+back:
		kind = warnLowSpace
	}
	t.say(kind, d, "", func() string {
		free := fmt.Sprintf("%d of %d bytes are free", d.Free, d.Size)
		switch kind {
		case warnCriticalSpace:
			return free + ", new volumes are refused and volumes that are there go on growing: add a LUN or delete volumes"
		case warnLowSpace:
			return free + ": add a LUN or delete volumes"
		}
		return free + " again"
	})
}

// warnHost looks at what one host reports.
func (t *term) warnHost(d fsm.Domain, host string, r *DomainReport) {
	t.warnMetadata(d, r)
	slow := t.m.cfg.Policy.Domains.SlowRead
	switch {
	case r.Valid() && r.Delay > slow:
		t.say(warnSlow, d, host, func() string {
			return fmt.Sprintf("a read of 4 KiB took %v on %s: look after the path and the load of the array", r.Delay.Round(time.Millisecond), host)
		})
	case r.Valid() && r.Delay <= slow/2:
		t.say(clearSlow, d, host, func() string {
			return fmt.Sprintf("a read of 4 KiB took %v on %s", r.Delay.Round(time.Microsecond), host)
		})
	}
	switch {
	case r.Late:
		t.say(warnLate, d, host, func() string {
			return host + " has not renewed its lease for half of its life: early warning, guests there are ended when it runs out"
		})
	case r.Acquired:
		t.say(clearLate, d, host, func() string { return host + " renews its lease in time" })
	}
}

// warnMetadata looks at how full the metadata area is, by one host's word: all read the same.
func (t *term) warnMetadata(d fsm.Domain, r *DomainReport) {
	full := func(percent int64) bool { return r.MetadataSize > 0 && r.MetadataUsed*100 > r.MetadataSize*percent }
	area := func() string {
		return fmt.Sprintf("the volume group's metadata takes %d of %d bytes", r.MetadataUsed, r.MetadataSize)
	}
	switch was := t.domains.warned[warnKey{clearMetadata, d.ID, ""}].kind; {
	case full(metadataFull):
		t.say(warnMetadata, d, "", func() string {
			return area() + ": when it is full nothing can be made or extended; delete volumes, or use another domain for new ones"
		})
	case r.MetadataSize > 0 && was == warnMetadata && !full(metadataRoom):
		t.say(clearMetadata, d, "", area)
	}
}

// say records the beginning or the end of a warning, unless that was said.
func (t *term) say(kind string, d fsm.Domain, host string, what func() string) {
	key := warnKey{warnFamilies[kind], d.ID, host}
	was, now := t.domains.warned[key], t.m.cfg.Now()
	if was.kind == kind || was.kind == "" && kind == key.family || !was.at.IsZero() && now.Sub(was.at) < warnEvery {
		return
	}
	t.domains.warned[key] = warned{kind, now}
	why := what()
	e := fsm.Event{Kind: kind, Severity: fsm.Warning, Host: host, Subject: d.ID, Reason: why, Message: "domain " + d.Name + ": " + why}
	switch kind {
	case key.family:
		e.Severity = fsm.Info
	case warnCriticalSpace:
		e.Severity = fsm.Error
	}
	t.wg.Go(func() {
		t.notes.Lock()
		defer t.notes.Unlock()
		ctx, cancel := context.WithTimeout(t.ctx, time.Minute)
		defer cancel()
		t.report(t.recordDomainEvent(ctx, e), "recording an event")
	})
}
