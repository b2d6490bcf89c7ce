package manager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// domainWork is what a term remembers to judge domains by. Only the loop uses it, but for force.
type domainWork struct {
	told    map[string]time.Time // when a change of the failing hosts was last recorded, by domain
	retries map[string]*retry    // attempts to reach a domain again
	warned  map[warnKey]warned   // warnings that stand; nil: the history was not read yet
	force   chan string          // domains that are to be tried at once
}

func newDomainWork() domainWork {
	return domainWork{told: map[string]time.Time{}, retries: map[string]*retry{}, force: make(chan string, 16)}
}

// failingEvery is the least time between two records of who fails to reach a domain whose status stays.
const failingEvery = 5 * time.Second

// lookAfterDomains judges every domain, records what changed, has hosts try again what they cannot reach, and warns.
func (t *term) lookAfterDomains(view *fsm.State) {
	inputs := t.domainInputs(view)
	for _, in := range inputs {
		d, _ := view.Domains.Get(in.ID)
		if in.Status == fsm.DomainPreparing {
			t.release(view, d)
			continue
		}
		t.recordVerdict(d, JudgeDomain(in), in)
	}
	t.retryDomains(inputs)
	t.warnDomains(view, inputs)
}

// storageTrouble says which hosts miss storage that others reach.
func (t *term) storageTrouble(view *fsm.State) map[string]Trouble {
	in := StorageInput{Domains: t.domainInputs(view), Down: map[string]bool{}, Policy: t.m.cfg.Policy.Domains}
	for _, h := range view.Hosts.All() {
		in.Down[h.Name] = h.CurrentState() == fsm.HostNonOperational
	}
	return storageTrouble(in)
}

// domainInputs is the picture that domains are judged by.
func (t *term) domainInputs(view *fsm.State) []DomainInput {
	now := t.m.cfg.Now()
	up := 0
	for _, h := range view.Hosts.All() {
		if h.CurrentState() == fsm.HostUp {
			up++
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []DomainInput
	for id, d := range view.Domains.All() {
		in := DomainInput{ID: id, Name: d.Name, Status: d.CurrentStatus(), Up: up, TermAge: now.Sub(t.start), Policy: t.m.cfg.Policy.Domains}
		for _, h := range view.Hosts.All() {
			if s := t.hosts[h.Name]; s != nil && s.reachable {
				if in.Views == nil {
					in.Views = make([]DomainView, 0, len(t.hosts))
				}
				in.Views = append(in.Views, s.domainView(h, id, now, in.Policy))
			}
		}
		out = append(out, in)
	}
	return out
}

// domainView is what a host that answers says of a domain. Caller holds term.mu.
func (s *sighting) domainView(h fsm.Host, id string, now time.Time, p DomainPolicy) DomainView {
	state := h.CurrentState()
	w := DomainView{Host: h.Name, Counts: state == fsm.HostUp,
		Sees: state != fsm.HostMaintenance && state != fsm.HostPreparing}
	d, ok := s.domains[id]
	if !ok || d.lookedAt.IsZero() {
		return w
	}
	w.Known, w.Looks, w.Code, w.Detail = true, d.goodLooks, d.report.Code, d.report.Detail
	stale := d.lookedAt.Add(p.ReportAge)
	switch {
	case !d.badSince.IsZero():
		w.Bad = max(now.Sub(d.badSince), 1)
	case now.After(stale):
		w.Bad, w.Looks = max(now.Sub(stale), 1), 0
	}
	return w
}

// recordVerdict commits a verdict that differs from what is recorded, with an event.
func (t *term) recordVerdict(d fsm.Domain, v DomainVerdict, in DomainInput) {
	now := t.m.cfg.Now()
	moved := v.Status != d.CurrentStatus()
	same := slices.Equal(v.Failing, d.Failing) && (len(v.Failing) == 0 || v.Reason == d.Reason) && (v.In > 0) == (d.Deadline != 0)
	if !moved && (same || now.Sub(t.domains.told[d.ID]) < failingEvery) {
		return
	}
	t.domains.told[d.ID] = now
	failing := append([]string{}, v.Failing...) // an empty list is a change too, no list is none
	cmd := &fsm.DomainUpdate{ID: d.ID, Reason: &v.Reason, Failing: &failing, Deadline: new(int64), Expect: new(d.CurrentStatus()), Time: now.UnixNano()}
	if moved {
		cmd.Status = &v.Status
	}
	if v.In > 0 {
		*cmd.Deadline = now.Add(v.In).UnixNano()
	}
	e := verdictEvent(d, v, in, moved)
	t.once("domain "+d.ID, func(ctx context.Context) {
		if err := t.command(ctx, cmd); err != nil {
			t.report(err, "recording what domain "+d.Name+" is")
			pause(ctx, t.m.cfg.Tick)
			return
		}
		t.report(t.recordDomainEvent(ctx, e), "recording an event")
	})
}

// verdictEvent tells of a verdict.
func verdictEvent(d fsm.Domain, v DomainVerdict, in DomainInput, moved bool) fsm.Event {
	e := fsm.Event{Subject: d.ID, Reason: v.Reason, Evidence: in.evidence(), Severity: fsm.Warning}
	switch {
	case moved:
		e.Kind, e.Message = "domain."+v.Status, fmt.Sprintf("domain %s is %s: %s", d.Name, v.Status, v.Reason)
		switch v.Status {
		case fsm.DomainActive:
			e.Severity = fsm.Info
		case fsm.DomainInactive:
			e.Severity = fsm.Error
			if d.Role == "master" {
				e.Message += "; it is the master, so nothing can be changed in the pool before it is back, or a person decides to make another domain the master"
			}
		}
	case len(v.Failing) > 0:
		e.Kind, e.Message = "domain.unreachable", fmt.Sprintf("domain %s cannot be reached by %s", d.Name, strings.Join(v.Failing, ", "))
	default:
		e.Kind, e.Severity, e.Message = "domain.reachable", fsm.Info, fmt.Sprintf("domain %s is reached again by every host that reports", d.Name)
		e.Reason = cmp.Or(e.Reason, "no host that reports fails to reach it any more")
	}
	return e
}

// evidence is what every host said.
func (in *DomainInput) evidence() string {
	var out []string
	for _, w := range in.Views {
		switch {
		case !w.Known:
			out = append(out, w.Host+": has not looked yet")
		case w.Bad > 0:
			out = append(out, fmt.Sprintf("%s: %s for %v (%s)", w.Host, w.Code, w.Bad.Round(time.Millisecond), w.Detail))
		default:
			out = append(out, fmt.Sprintf("%s: %s, %d looks in a row", w.Host, w.Code, w.Looks))
		}
	}
	return strings.Join(out, "; ")
}

// recordDomainEvent records an event about a domain.
func (t *term) recordDomainEvent(ctx context.Context, e fsm.Event) error {
	t.m.cfg.Log.Info(e.Message, "kind", e.Kind, "domain", e.Subject, "host", e.Host)
	e.Time = t.m.cfg.Now().UnixNano()
	return t.command(ctx, &fsm.EventAdd{Events: []fsm.Event{e}})
}
