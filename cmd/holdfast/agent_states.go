package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http"
)

// stateCollector tells the states that the cluster has recorded, and what is waited for. Every host tells the same but for
// the age of its mirror; what only the leader knows only the leader tells.
type stateCollector struct {
	view  func() *fsm.State // nil: the host is no member
	lead  func() (manager.Status, bool)
	now   func() time.Time
	tally *tally
}

// newStateCollector reads from a host.
func newStateCollector(h *host.Host) *stateCollector {
	return &stateCollector{now: time.Now, tally: newTally(),
		view: func() *fsm.State {
			if n := h.Node(); n != nil {
				return n.View()
			}
			return nil
		},
		lead: func() (manager.Status, bool) {
			if m := h.Manager(); m != nil {
				return m.Status()
			}
			return manager.Status{}, false
		},
	}
}

// registerStates adds what the cluster has recorded, and how many follow it.
func (m *metrics) registerStates(h *host.Host, handler *httpapi.Handler) error {
	streams := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdfast_http_event_streams", Help: "Streams of events that this host serves now."},
		func() float64 { return float64(handler.Streams()) })
	if err := errors.Join(m.registry.Register(newStateCollector(h)), m.registry.Register(streams)); err != nil {
		return fmt.Errorf("registering the metrics of states: %w", err)
	}
	return nil
}

// Metrics about states. A state is a gauge for each state there is, of which one is 1, so that a rule can ask for it by name.
var (
	descHostState    = newDesc("host_state", "1 for the state that the manager records of a host, 0 for all others.", "host", "state")
	descHostSince    = newDesc("host_state_seconds", "How long a host has been in its state.", "host")
	descHostDeadline = newDesc("host_deadline_seconds", "Time until a host's state is left by itself or something is done about it; negative when it is overdue.", "host")
	descHostWish     = newDesc("host_wish", "1 when an operator or a policy wants something of a host.", "host", "want")
	descHostPriority = newDesc("host_spm_priority", "Priority of a host as SPM; negative never.", "host")
	descUnprotected  = newDesc("host_unprotected", "1 when nothing resets a host's machine when its leases run out under somebody.", "host")
	descWitness      = newDesc("host_witness", "1 for what a witness says about a host; subject is the domain of a lease.", "host", "kind", "subject", "state")

	descDomainSince    = newDesc("domain_status_seconds", "How long a domain has had its status.", "domain", "name")
	descDomainDeadline = newDesc("domain_deadline_seconds", "Time until a domain's status is left by itself or something is done about it; negative when it is overdue.", "domain", "name")
	descDomainWarn     = newDesc("domain_warn_free_bytes", "Free space of a domain below which it is a warning.", "domain", "name")
	descDomainCritical = newDesc("domain_critical_free_bytes", "Free space of a domain below which it takes no new volumes.", "domain", "name")

	descSPMState   = newDesc("spm_state", "1 for the recorded state of the SPM role, 0 for all others.", "state")
	descSPMHolder  = newDesc("spm_holder", "1 for the host that is recorded as SPM.", "host")
	descSPMSince   = newDesc("spm_state_seconds", "How long the role has been in its state.")
	descSPMEpoch   = newDesc("spm_recorded_epoch", "Epoch of the role as recorded; it grows at every change of hands.")
	descSPMWish    = newDesc("spm_wish", "1 for what an operator wants of the role, 0 for all others: any, stopped, host.", "want")
	descSPMRow     = newDesc("spm_decision", "1 for the row of the leader's decision table that applies, with what the leader does about it. Only the leader has it.", "row", "action")
	descSPMAwaited = newDesc("spm_awaited_seconds", "Countdown of what the leader waits for about the role. Only the leader has it, and only while there is one.")
	descSPMDecided = newDesc("spm_decision_age_seconds", "How long ago the leader looked at the role. Only the leader has it.")

	descMasterVersion = newDesc("pool_master_version", "Grows with each change of the master domain.")
	descProofs        = newDesc("proofs", "Recorded proofs that a host writes nothing any more, by kind; the last 16 of each host are kept.", "kind")
	descEventsKept    = newDesc("events_kept", "Events in the history.")

	descFenceOpen    = newDesc("fence_open_seconds", "How long a fence operation that is not over has been going on, with the rung of the ladder that it is at.", "host", "action", "rung", "result")
	descFenceEnabled = newDesc("fencing_enabled", "1 when the policy allows fencing.")
	descFenceDisarm  = newDesc("fencing_disarmed_seconds", "Time for which nothing is fenced by itself, because an operator disarmed fencing; 0 when it is armed.")
	descFenceDevices = newDesc("fence_devices", "Fence devices of a host that are in use.", "host", "type")
)

var stateDescs = []*prometheus.Desc{descHostState, descHostSince, descHostDeadline, descHostWish, descHostPriority, descUnprotected, descWitness,
	descDomainSince, descDomainDeadline, descDomainWarn, descDomainCritical,
	descSPMState, descSPMHolder, descSPMSince, descSPMEpoch, descSPMWish, descSPMRow, descSPMAwaited, descSPMDecided,
	descMasterVersion, descProofs, descEventsKept, descFenceOpen, descFenceEnabled, descFenceDisarm, descFenceDevices}

var (
	hostStates = []string{fsm.HostJoining, fsm.HostUp, fsm.HostConnecting, fsm.HostNonResponsive, fsm.HostNonOperational, fsm.HostIsolated,
		fsm.HostPreparing, fsm.HostMaintenance, fsm.HostFencing, fsm.HostRebooting, fsm.HostDown}
	spmStates  = []string{fsm.SPMNone, fsm.SPMStarting, fsm.SPMServing, fsm.SPMStopping}
	proofKinds = []string{fsm.ProofReleased, fsm.ProofDead, fsm.ProofPowerOff, fsm.ProofExit, fsm.ProofPerson}
	spmWishes  = []string{fsm.DesireAny, fsm.DesireStopped, "host"}
)

// Describe lists the table.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range stateDescs {
		ch <- d
	}
	c.tally.Describe(ch)
}

// Collect answers a scrape.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.view()
	if st == nil {
		return
	}
	s := stateScrape{ch: ch, st: st, now: c.now()}
	s.hosts()
	s.domains()
	s.role()
	if status, ok := c.lead(); ok {
		s.decision(status)
	}
	s.fencing()
	s.proofs()
	c.tally.count(st)
	c.tally.Collect(ch)
}

// stateScrape is one answer.
type stateScrape struct {
	ch  chan<- prometheus.Metric
	st  *fsm.State
	now time.Time
}

// gauge tells one number. Labels may come from a peer or a LUN; the library panics at what is no UTF-8.
func (s stateScrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD")
	}
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// oneOf tells a state as a gauge for each there is. One that this program does not know is told as well.
func (s stateScrape) oneOf(d *prometheus.Desc, all []string, is string, labels ...string) {
	known := false
	for _, one := range all {
		known = known || one == is
		s.gauge(d, number(one == is), append(labels[:len(labels):len(labels)], one)...)
	}
	if !known && is != "" {
		s.gauge(d, 1, append(labels[:len(labels):len(labels)], is)...)
	}
}

// since tells how long ago something was; times that were never recorded are left out.
func (s stateScrape) since(d *prometheus.Desc, ns int64, labels ...string) {
	if ns != 0 {
		s.gauge(d, max(0, s.now.Sub(unixTime(ns)).Seconds()), labels...)
	}
}

// until tells how long it takes until something; there may be nothing.
func (s stateScrape) until(d *prometheus.Desc, ns int64, labels ...string) {
	if ns != 0 {
		s.gauge(d, unixTime(ns).Sub(s.now).Seconds(), labels...)
	}
}

func (s stateScrape) hosts() {
	for _, h := range s.st.Hosts.All() {
		s.oneOf(descHostState, hostStates, h.CurrentState(), h.Name)
		s.since(descHostSince, h.Since, h.Name)
		s.until(descHostDeadline, h.Deadline, h.Name)
		s.gauge(descHostWish, number(h.Wish.Want == fsm.WishMaintenance), h.Name, fsm.WishMaintenance)
		s.gauge(descHostPriority, float64(h.Priority), h.Name)
		s.gauge(descUnprotected, number(!h.Protected()), h.Name)
		for _, w := range h.Witnesses {
			s.gauge(descWitness, 1, h.Name, w.Kind, w.Subject, w.State)
		}
	}
}

// domains tells what is waited for, and from when on space is scarce; the verdicts themselves are in domainCollector.
func (s stateScrape) domains() {
	for _, d := range s.st.Domains.All() {
		s.since(descDomainSince, d.Since, d.ID, d.Name)
		s.until(descDomainDeadline, d.Deadline, d.ID, d.Name)
		limits := host.DomainSettings(s.st, d.ID)
		s.gauge(descDomainWarn, float64(limits.WarnBelow(d.Size)), d.ID, d.Name)
		s.gauge(descDomainCritical, float64(limits.CriticalBelow(d.Size)), d.ID, d.Name)
	}
}

func (s stateScrape) role() {
	p, ok := s.st.Pool()
	if !ok {
		return
	}
	s.oneOf(descSPMState, spmStates, p.SPM.State)
	if p.SPM.Host != "" && p.SPM.State != fsm.SPMNone {
		s.gauge(descSPMHolder, 1, p.SPM.Host)
	}
	s.since(descSPMSince, p.SPM.Since)
	s.gauge(descSPMEpoch, float64(p.SPM.Epoch))
	want, _, _ := strings.Cut(p.SPM.Desired, ":")
	s.oneOf(descSPMWish, spmWishes, want)
	s.gauge(descMasterVersion, float64(p.MasterVersion))
}

// decision is what the leader makes of the role.
func (s stateScrape) decision(st manager.Status) {
	s.gauge(descSPMRow, 1, string(st.Row), string(st.Action))
	s.gauge(descSPMDecided, max(0, s.now.Sub(st.At).Seconds()))
	if st.In > 0 {
		s.gauge(descSPMAwaited, max(0, (st.In-s.now.Sub(st.At)).Seconds()))
	}
}

func (s stateScrape) fencing() {
	for _, op := range s.st.OpenFences() {
		rung, result := "", ""
		if n := len(op.Steps); n > 0 {
			rung, result = op.Steps[n-1].Rung, op.Steps[n-1].Result
		}
		s.since(descFenceOpen, op.Began, op.Host, op.Action, rung, result)
	}
	enabled, set := s.st.Config.Get(fsm.ConfigFencingEnabled)
	s.gauge(descFenceEnabled, number(!set || enabled == "true"))
	left := 0.0
	if until, _ := s.st.DisarmedUntil(); until != 0 {
		left = max(0, unixTime(until).Sub(s.now).Seconds())
	}
	s.gauge(descFenceDisarm, left)
	type key struct{ host, kind string }
	devices := map[key]int{}
	for _, d := range s.st.FenceDevices.All() {
		if !d.Disabled {
			devices[key{d.Host, d.Type}]++
		}
	}
	for k, n := range devices {
		s.gauge(descFenceDevices, float64(n), k.host, k.kind)
	}
}

func (s stateScrape) proofs() {
	count := map[string]int{}
	for _, k := range proofKinds {
		count[k] = 0
	}
	for _, p := range s.st.Proofs.All() {
		count[p.Kind]++
	}
	for k, n := range count {
		s.gauge(descProofs, float64(n), k)
	}
	s.gauge(descEventsKept, float64(s.st.EventCount()))
}
