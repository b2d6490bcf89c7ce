package main

import "github.com/prometheus/client_golang/prometheus"

// What a host asked for and, as SPM, answered.
var (
	descAsked           = newDesc("extend_requests_total", "Extensions that this host asked for, by how they ended: rpc and mailbox are done.", "result")
	descAskedOpen       = newDesc("extend_requests_open", "Extensions that this host waits for.")
	descAskedSilent     = newDesc("extend_network_silent", "1 when the SPM did not answer this host's last call, so that the storage is asked at once.")
	descMailHost        = newDesc("mailbox_host_requests_total", "Requests of this host in the storage mailbox, by what became of them.", "what")
	descMailHostIO      = newDesc("mailbox_host_io_total", "Device calls of this host's side of the mailbox.", "op")
	descMailSlots       = newDesc("mailbox_host_slots", "Slots of this host's page in use.", "state")
	descMailServer      = newDesc("mailbox_spm_requests_total", "Requests that this host saw in the mailbox since it serves as SPM, by what became of them.", "what")
	descMailServerIO    = newDesc("mailbox_spm_io_total", "Device calls of the SPM's side of the mailbox.", "op")
	descMailServerBytes = newDesc("mailbox_spm_bytes_total", "Bytes that the SPM's side of the mailbox read and wrote.", "op")
	descMailServerOpen  = newDesc("mailbox_spm_open", "Slots of the mailbox that the SPM has something to do with, and requests that it carries out.", "what")
)

// collectExtensions tells what this host asked for, and what it answered as SPM.
func (c collector) collectExtensions(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if ext, mail, ok := c.host.ExtendStats(); ok {
		count(descAsked, ext.ByRPC, "rpc")
		count(descAsked, ext.ByMailbox, "mailbox")
		count(descAsked, ext.Failed, "failed")
		gauge(descAskedOpen, float64(ext.UnderWay))
		gauge(descAskedSilent, number(ext.NetworkBad))
		count(descMailHost, mail.Asked, "asked")
		count(descMailHost, mail.Answered, "answered")
		count(descMailHost, mail.Withdrawn, "withdrawn")
		count(descMailHostIO, mail.Reads, "read")
		count(descMailHostIO, mail.Writes, "write")
		gauge(descMailSlots, float64(mail.SlotsAsked), "asked")
		gauge(descMailSlots, float64(mail.SlotsCleaned), "cleaned")
	}
	role := c.host.Role()
	if role == nil {
		return
	}
	s, ok := role.MailboxStats()
	if !ok {
		return
	}
	count(descMailServer, s.Requests, "seen")
	count(descMailServer, s.Answered, "answered")
	count(descMailServer, s.Refused, "refused")
	count(descMailServerIO, s.Reads, "read")
	count(descMailServerIO, s.Writes, "write")
	count(descMailServerBytes, s.BytesRead, "read")
	count(descMailServerBytes, s.BytesWritten, "write")
	gauge(descMailServerOpen, float64(s.Open), "slots")
	gauge(descMailServerOpen, float64(s.Queued), "requests")
}
