package manager

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/fsm"
)

// ReleaseView is what a host does with a domain that is to go into maintenance.
type ReleaseView struct {
	Host    string
	Answers bool
	Gone    bool // it does not answer, and cannot use anything: down
	Known   bool // it has spoken since it knows that the domain is to go into maintenance
	Open    bool // it has the domain open, or is in its lockspace
	Uses    []string
}

// Release is what follows for a domain that is to go into maintenance. Exactly one of Done and the rest is set.
type Release struct {
	Done bool     // every host has let go
	Used []string // what uses it: the maintenance is given up
	Wait []string // hosts that have not let go yet, and why
}

// JudgeRelease decides whether every host has let go of a domain. Pure.
func JudgeRelease(views []ReleaseView) Release {
	var r Release
	for _, v := range views {
		switch {
		case v.Gone:
		case !v.Answers:
			r.Wait = append(r.Wait, v.Host+" does not answer, so whether it uses the domain is not known")
		case !v.Known:
			r.Wait = append(r.Wait, v.Host+" has not said yet whether it uses the domain")
		case len(v.Uses) > 0:
			for _, use := range v.Uses {
				r.Used = append(r.Used, use+" on "+v.Host)
			}
		case v.Open:
			r.Wait = append(r.Wait, v.Host+" has not let go of the domain yet")
		}
	}
	r.Done = len(r.Used) == 0 && len(r.Wait) == 0
	return r
}

// waitsFor is what follows, in the reason of a domain that is to go into maintenance, on who wanted it.
const waitsFor = "; it waits: "

// wantedBy is who wanted the maintenance of a domain, and why.
func wantedBy(d fsm.Domain) string {
	who, _, _ := strings.Cut(d.Reason, waitsFor)
	return who
}

// maxUsed bounds how many uses a message names.
const maxUsed = 8

// sayUsed names what uses a domain.
func sayUsed(used []string) string {
	if n := len(used); n > maxUsed {
		used = append(slices.Clone(used[:maxUsed]), fmt.Sprintf("and %d more", n-maxUsed))
	}
	return strings.Join(used, "; ")
}

// releaseViews is what hosts do with a domain.
func (t *term) releaseViews(view *fsm.State, id string) []ReleaseView {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []ReleaseView
	for _, h := range view.Hosts.All() {
		v := ReleaseView{Host: h.Name}
		if s := t.hosts[h.Name]; s != nil && s.reachable {
			d, ok := s.domains[id]
			v.Answers, v.Known = true, ok && d.report.Looks > 0 && d.report.Status == fsm.DomainPreparing
			v.Open, v.Uses = d.report.Open || d.report.Acquired, d.report.Uses
		}
		v.Gone = !v.Answers && t.surelyOff(view, h)
		out = append(out, v)
	}
	return out
}

// surelyOff tells whether a host that does not answer can use nothing: down, or in maintenance and switched off. Caller holds mu.
func (t *term) surelyOff(view *fsm.State, h fsm.Host) bool {
	switch h.CurrentState() {
	case fsm.HostDown:
		return true
	case fsm.HostMaintenance:
		d := t.disk.hosts[h.HostID]
		return d.status == Free || provenGeneration(view, h, d.gen) != 0
	}
	return false
}

// release goes on with a domain that is to go into maintenance.
func (t *term) release(view *fsm.State, d fsm.Domain) {
	r := JudgeRelease(t.releaseViews(view, d.ID))
	status, reason, severity := fsm.DomainPreparing, wantedBy(d)+waitsFor+strings.Join(r.Wait, "; "), fsm.Info
	switch {
	case r.Done:
		status, reason = fsm.DomainMaintenance, wantedBy(d)
	case len(r.Used) > 0:
		status, severity = fsm.DomainActivating, fsm.Warning
		reason = "the maintenance was given up, the domain is in use: " + sayUsed(r.Used)
	case d.Reason == reason, t.m.cfg.Now().Sub(t.domains.told[d.ID]) < failingEvery:
		return
	}
	t.domains.told[d.ID] = t.m.cfg.Now()
	t.once("domain "+d.ID, func(ctx context.Context) {
		err := t.setStatus(ctx, d, status, reason)
		if err == nil && status != fsm.DomainPreparing {
			err = t.recordDomainEvent(ctx, fsm.Event{Kind: "domain." + status, Severity: severity, Subject: d.ID, Reason: reason,
				Message: fmt.Sprintf("domain %s is %s: %s", d.Name, status, reason)})
		}
		if err != nil {
			t.report(err, "recording what domain "+d.Name+" is")
			pause(ctx, t.m.cfg.Tick)
		}
	})
}

// setStatus commits a status of a domain that is still what it was.
func (t *term) setStatus(ctx context.Context, d fsm.Domain, status, reason string) error {
	return t.command(ctx, &fsm.DomainUpdate{ID: d.ID, Status: &status, Reason: &reason, Failing: &[]string{}, Deadline: new(int64),
		Expect: new(d.CurrentStatus()), Time: t.m.cfg.Now().UnixNano()})
}
