package manager

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Why the role moved, as the events of kind spm.moved say it.
const (
	MovedOperator    = "operator"            // somebody asked for it
	MovedMaintenance = "maintenance"         // its host goes out of use
	MovedDomains     = "domains_unreachable" // another host reaches domains that its host does not
	MovedMaster      = "master_unreadable"   // its host cannot read the master domain
	MovedRenewals    = "lease_not_renewed"   // its host could not renew the lease
	MovedIsolated    = "host_isolated"       // its host was asked through the storage
	MovedCrash       = "host_crashed"        // its host, or the agent there, is gone
	MovedGaveUp      = "given_up"            // its host let it go by itself
	kindMoved        = "spm.moved"
	kindStarted      = "spm.started"
	causeMemory      = 10 * time.Minute
)

// tenure is who served last, as far as this term knows, and why that ended.
type tenure struct {
	host    string
	epoch   uint64
	started time.Time // of its agent
	cause   string    // empty: not known
	at      time.Time // of cause
}

// serves notes who serves now.
func (t *term) serves(d Decision) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.hosts[d.Host]
	if s == nil || t.tenure.host == d.Host && t.tenure.epoch == d.Epoch && t.tenure.started.Equal(s.reply.Started) {
		return
	}
	t.tenure = tenure{host: d.Host, epoch: d.Epoch, started: s.reply.Started}
}

// because notes why the present tenure ends. What is known first counts: what follows from it may look like another reason.
func (t *term) because(host, cause string) {
	if cause == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tenure.host != host {
		t.tenure = tenure{host: host}
	}
	if t.tenure.cause == "" || t.m.cfg.Now().Sub(t.tenure.at) > causeMemory {
		t.tenure.cause, t.tenure.at = cause, t.m.cfg.Now()
	}
}

// whyMoved is why the role left a host: what this term saw, or else what the decision to start it elsewhere goes by.
func (t *term) whyMoved(from string, d Decision) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, known := t.hosts[from]
	switch {
	case t.tenure.host == from && t.tenure.cause != "":
		return t.tenure.cause
	case !known || !s.reachable:
		return MovedCrash
	case t.tenure.host == from && !t.tenure.started.Equal(s.reply.Started):
		return MovedCrash // the agent is another one
	case d.Row == RowGone || !s.reply.KeeperOK:
		return MovedRenewals
	}
	return MovedGaveUp
}

// previousSPM is who had the role before, by the mirror or its history; empty: nobody that is remembered. Who was only to start never
// had it.
func previousSPM(view *fsm.State) string {
	if p, _ := view.Pool(); p.SPM.Host != "" && p.SPM.State != fsm.SPMStarting {
		return p.SPM.Host
	}
	for _, e := range slices.Backward(view.Events()) {
		if e.Kind == kindStarted {
			return e.Host
		}
	}
	return ""
}

// moved records that the role is on another host than before, and why.
func (t *term) moved(from string, d Decision, epoch uint64) {
	if from == "" || from == d.Host {
		return
	}
	cause := t.whyMoved(from, d)
	t.wg.Go(func() {
		t.notes.Lock()
		defer t.notes.Unlock()
		t.report(t.record(t.ctx, fsm.Event{Severity: fsm.Info, Kind: kindMoved, Host: d.Host, Epoch: epoch, Reason: cause, Evidence: d.Reason,
			Message: fmt.Sprintf("the SPM role moved from %s to %s (%s): %s", from, d.Host, cause, d.Reason)}), "recording an event")
	})
}

// record commits one line of history.
func (t *term) record(ctx context.Context, e fsm.Event) error {
	t.m.cfg.Log.Info(e.Message, "kind", e.Kind, "host", e.Host, "epoch", e.Epoch, "reason", e.Reason)
	e.Time, e.Subject = t.m.cfg.Now().UnixNano(), subjectOf(e.Kind)
	return t.command(ctx, &fsm.EventAdd{Events: []fsm.Event{e}})
}
