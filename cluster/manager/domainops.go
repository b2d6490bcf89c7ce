package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

var (
	// ErrMasterDomain says that the master cannot go into maintenance.
	ErrMasterDomain = errors.New("the domain is the pool's master, whose leases everything stands on")
	// ErrDomainUsed says that a domain is in use and so cannot go into maintenance. Nothing has changed.
	ErrDomainUsed = errors.New("the domain is in use")
	// ErrDomainWaits says that what was wanted of a domain is recorded, and was not reached in the time given.
	ErrDomainWaits = errors.New("the domain is not there yet; what is wanted stays recorded")
)

// DomainWish is what a person wants of a domain.
type DomainWish struct {
	Domain string // UUID
	By     string
	Reason string
}

// because says who and why.
func (w DomainWish) because() string {
	if w.Reason == "" {
		return "wanted by " + w.By
	}
	return "wanted by " + w.By + ": " + w.Reason
}

// DeactivateDomain brings a domain into maintenance: hosts take on no new work there and leave its lockspace. It works on the leader
// and returns when every host has let go, or why not.
func (m *Manager) DeactivateDomain(ctx context.Context, w DomainWish) (fsm.Domain, error) {
	var out fsm.Domain
	err := m.inTerm(ctx, func(t *term) (err error) {
		out, err = t.deactivate(ctx, w)
		return err
	})
	return out, err
}

// ActivateDomain takes a domain back into use, or has every host try again to reach one that is inactive. It works on the leader and
// returns when hosts reach it, or what is wrong.
func (m *Manager) ActivateDomain(ctx context.Context, w DomainWish) (fsm.Domain, error) {
	var out fsm.Domain
	err := m.inTerm(ctx, func(t *term) (err error) {
		out, err = t.activate(ctx, w)
		return err
	})
	return out, err
}

func (t *term) deactivate(ctx context.Context, w DomainWish) (fsm.Domain, error) {
	ctx, cancel := t.bind(ctx)
	defer cancel()
	view := t.m.cfg.Cluster.View()
	d, ok := view.Domains.Get(w.Domain)
	if !ok {
		return d, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "no domain " + w.Domain}
	}
	switch d.CurrentStatus() {
	case fsm.DomainMaintenance:
		return d, nil
	case fsm.DomainPreparing:
		return t.awaitStatus(ctx, d.ID, fsm.DomainMaintenance)
	}
	if err := t.refuseMaintenance(view, d); err != nil {
		return d, err
	}
	if err := t.setStatus(ctx, d, fsm.DomainPreparing, w.because()); err != nil {
		return d, fmt.Errorf("recording that domain %s goes into maintenance: %w", d.Name, err)
	}
	t.report(t.recordDomainEvent(ctx, fsm.Event{Kind: "domain." + fsm.DomainPreparing, Severity: fsm.Info, Subject: d.ID, Reason: w.because(),
		Message: fmt.Sprintf("domain %s is to go into maintenance, %s", d.Name, w.because())}), "recording an event")
	return t.awaitStatus(ctx, d.ID, fsm.DomainMaintenance)
}

// refuseMaintenance says what forbids it, by what hosts said last.
func (t *term) refuseMaintenance(view *fsm.State, d fsm.Domain) error {
	if pool, _ := view.Pool(); pool.Master == d.ID {
		next := "make another domain the master first (holdfast domain set-master)"
		if view.Domains.Len() == 1 {
			next = "it is the only domain of the pool, which ends with it: add another one and make that the master first"
		}
		return fmt.Errorf("domain %s: %w; %s", d.Name, ErrMasterDomain, next)
	}
	var used []string
	for _, v := range t.releaseViews(view, d.ID) {
		for _, use := range v.Uses {
			used = append(used, use+" on "+v.Host)
		}
	}
	if len(used) > 0 {
		return fmt.Errorf("domain %s: %w: %s", d.Name, ErrDomainUsed, sayUsed(used))
	}
	return nil
}

func (t *term) activate(ctx context.Context, w DomainWish) (fsm.Domain, error) {
	ctx, cancel := t.bind(ctx)
	defer cancel()
	d, ok := t.m.cfg.Cluster.View().Domains.Get(w.Domain)
	if !ok {
		return d, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "no domain " + w.Domain}
	}
	switch d.CurrentStatus() {
	case fsm.DomainActive:
		return d, nil
	case fsm.DomainPreparing, fsm.DomainMaintenance:
		if err := t.setStatus(ctx, d, fsm.DomainActivating, w.because()); err != nil {
			return d, fmt.Errorf("recording that domain %s is to be used again: %w", d.Name, err)
		}
		t.report(t.recordDomainEvent(ctx, fsm.Event{Kind: "domain." + fsm.DomainActivating, Severity: fsm.Info, Subject: d.ID, Reason: w.because(),
			Message: fmt.Sprintf("domain %s is to be used again, %s", d.Name, w.because())}), "recording an event")
	}
	select {
	case t.domains.force <- d.ID:
		t.poke()
	default: // as many are asked for already
	}
	return t.awaitStatus(ctx, d.ID, fsm.DomainActive)
}

// awaitStatus waits until the mirror shows a status, or another one from which it does not follow.
func (t *term) awaitStatus(ctx context.Context, id, want string) (fsm.Domain, error) {
	for {
		changed := t.m.cfg.Cluster.Changed()
		d, ok := t.m.cfg.Cluster.View().Domains.Get(id)
		switch status := d.CurrentStatus(); {
		case !ok:
			return d, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "domain " + id + " was removed"}
		case status == want:
			return d, nil
		case want == fsm.DomainMaintenance && status != fsm.DomainPreparing:
			return d, fmt.Errorf("domain %s is %s: %s: %w", d.Name, status, d.Reason, ErrDomainUsed)
		case want == fsm.DomainActive && (status == fsm.DomainPreparing || status == fsm.DomainMaintenance):
			return d, fmt.Errorf("domain %s is %s: somebody wanted the opposite meanwhile: %w", d.Name, status, ErrSuperseded)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return d, fmt.Errorf("domain %s is %s (%s): %w (%w)", d.Name, d.CurrentStatus(), strings.TrimSpace(d.Reason), ErrDomainWaits, context.Cause(ctx))
		}
	}
}

// domainWait bounds how long a caller waits for what it wants of a domain.
const domainWait = 30 * time.Second

// bind ends ctx with the term, and in time for an answer.
func (t *term) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, domainWait)
	stop := context.AfterFunc(t.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}
