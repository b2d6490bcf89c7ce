package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
)

// What the pool says of its domains, and what this host's monitors see of them.
var (
	descDomainStatus  = newDesc("domain_status", "1 for the status that the manager records of a domain, 0 for the others.", "domain", "name", "status")
	descDomainFailing = newDesc("domain_failing_hosts", "Hosts that answer and cannot reach a domain.", "domain", "name")
	descMonitorValid  = newDesc("domain_monitor_valid", "1 when this host can work with a domain by its last look.", "domain", "name")
	descMonitorRead   = newDesc("domain_monitor_read_seconds", "Times of this host's reads of 4 KiB of a domain; the quantiles are of the last 512.", "domain", "name")
	descMonitorAge    = newDesc("domain_monitor_age_seconds", "Time since this host's last look at a domain ended.", "domain", "name")
	descMonitorBusy   = newDesc("domain_monitor_running_seconds", "How long the look that is under way has been; 0 when none is.", "domain", "name")
	descMonitorMissed = newDesc("domain_monitor_missed_total", "Looks left out because the one before had not come back.", "domain", "name")
	descMonitorHeld   = newDesc("domain_monitor_acquired", "1 when this host's id is held in the lockspace of a domain.", "domain", "name")
	descMonitorLate   = newDesc("domain_monitor_renewal_late", "1 when half of the lease's life has passed without a renewal.", "domain", "name")
	descMetadataUsed  = newDesc("domain_metadata_used_bytes", "Length of the volume group's text.", "domain", "name")
	descMetadataSize  = newDesc("domain_metadata_size_bytes", "Longest text that fits the volume group's metadata area.", "domain", "name")
)

var domainStatuses = []string{fsm.DomainActive, fsm.DomainInactive, fsm.DomainUnknown, fsm.DomainPreparing, fsm.DomainMaintenance, fsm.DomainActivating}

// domainCollector reads the domains when it is asked.
type domainCollector struct{ host *host.Host }

// Describe lists the metrics.
func (c domainCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDomainStatus, descDomainFailing, descMonitorValid, descMonitorRead, descMonitorAge, descMonitorBusy,
		descMonitorMissed, descMonitorHeld, descMonitorLate, descMetadataUsed, descMetadataSize} {
		ch <- d
	}
}

// Collect answers a scrape.
func (c domainCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.host.Node()
	if n == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, d := range n.View().Domains.All() {
		for _, status := range domainStatuses {
			gauge(descDomainStatus, number(d.CurrentStatus() == status), d.ID, d.Name, status)
		}
		gauge(descDomainFailing, float64(len(d.Failing)), d.ID, d.Name)
	}
	for _, w := range c.host.DomainWatches() {
		collectWatch(ch, w)
	}
}

// collectWatch tells what one monitor has measured.
func collectWatch(ch chan<- prometheus.Metric, w host.DomainWatch) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, w.Domain, w.Name)
	}
	quantiles := map[float64]float64{}
	for q, t := range w.Quantiles {
		quantiles[q] = t.Seconds()
	}
	ch <- prometheus.MustNewConstSummary(descMonitorRead, w.Reads, w.ReadSum.Seconds(), quantiles, w.Domain, w.Name)
	ch <- prometheus.MustNewConstMetric(descMonitorMissed, prometheus.CounterValue, float64(w.Missed), w.Domain, w.Name)
	gauge(descMonitorBusy, w.Running.Seconds())
	if w.Code == manager.DomainUnread {
		return
	}
	gauge(descMonitorValid, number(w.Valid()))
	gauge(descMonitorAge, w.Age.Seconds())
	gauge(descMonitorHeld, number(w.Acquired))
	gauge(descMonitorLate, number(w.Late))
	if w.MetadataSize > 0 {
		gauge(descMetadataUsed, float64(w.MetadataUsed))
		gauge(descMetadataSize, float64(w.MetadataSize))
	}
}
