package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/fsm"
)

// collector reads the state of this host when it is asked, so that no number can be older than the scrape. Names and
// help texts are in this one table.
type collector struct{ host *host.Host }

// newDesc names one metric; all begin with holdfast_.
func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

var (
	descMember     = newDesc("member", "1 when this host belongs to a cluster.")
	descLeader     = newDesc("raft_is_leader", "1 when this host leads the cluster.")
	descLeaderSeen = newDesc("raft_leader_known", "1 when this host knows a leader, which takes a quorum.")
	descMirrorAge  = newDesc("mirror_age_seconds", "Age of this host's mirror: everything that was committed before then is in it.")
	descIndex      = newDesc("mirror_index", "Last Raft index applied to this host's mirror.")
	descServing    = newDesc("spm_serving", "1 when this host serves as SPM.")
	descEpoch      = newDesc("spm_epoch", "Epoch under which this host serves as SPM; 0 when it does not.")
	descStart      = newDesc("spm_start_seconds", "Time from lease held to serving of this host's last start as SPM.")
	descBacklog    = newDesc("spm_mirror_backlog", "Changes on disk that Raft has not taken yet.")
	descStorage    = newDesc("storage_up", "1 when this host's keeper runs and its master domain is open.")
	descHost       = newDesc("host_up", "1 when the manager records the host as up.", "host")
	descSize       = newDesc("domain_size_bytes", "Size of a domain.", "domain", "name")
	descFree       = newDesc("domain_free_bytes", "Free space of a domain.", "domain", "name")
	descWaiting    = newDesc("domain_waiting_extensions", "Extensions that wait for space on a domain.", "domain", "name")
	descNeeded     = newDesc("domain_waiting_bytes", "Bytes that the extensions which wait for space on a domain need together.", "domain", "name")
	descVolumes    = newDesc("domain_volumes", "Volumes of a domain in the mirror.", "domain", "name")
)

// Describe lists the table.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descMember, descLeader, descLeaderSeen, descMirrorAge, descIndex, descServing, descEpoch,
		descStart, descBacklog, descStorage, descHost, descSize, descFree, descWaiting, descNeeded, descVolumes,
		descAsked, descAskedOpen, descAskedSilent, descMailHost, descMailHostIO, descMailSlots, descMailServer, descMailServerIO, descMailServerBytes,
		descMailServerOpen} {
		ch <- d
	}
}

// Collect answers a scrape.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	n := c.host.Node()
	gauge(descMember, number(n != nil))
	if n == nil {
		return
	}
	_, known := n.Leader()
	st := n.View()
	gauge(descLeader, number(n.IsLeader()))
	gauge(descLeaderSeen, number(known))
	age, _ := n.Age()
	gauge(descMirrorAge, age.Seconds())
	gauge(descIndex, float64(st.Index))
	c.collectRole(gauge)
	c.collectExtensions(ch)
	for _, h := range st.Hosts.All() {
		gauge(descHost, number(h.State == fsm.HostUp), h.Name)
	}
	for _, d := range domainsOf(st) {
		gauge(descSize, float64(d.Size), d.ID, d.Name)
		gauge(descFree, float64(d.Free), d.ID, d.Name)
		gauge(descWaiting, float64(d.Waiting), d.ID, d.Name)
		gauge(descNeeded, float64(d.Needed), d.ID, d.Name)
		gauge(descVolumes, float64(d.Volumes), d.ID, d.Name)
	}
}

// collectRole tells this host's part in the SPM role.
func (c collector) collectRole(gauge func(*prometheus.Desc, float64, ...string)) {
	role := c.host.Role()
	gauge(descStorage, number(role != nil))
	if role == nil {
		return
	}
	st := role.Status()
	gauge(descServing, number(st.State == fsm.SPMServing))
	gauge(descEpoch, float64(st.Epoch))
	gauge(descStart, st.StartTook.Seconds())
	gauge(descBacklog, float64(st.Backlog))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
