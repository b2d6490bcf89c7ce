package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/manager"
)

// watchesOf shows what monitors have measured.
type watchesOf []host.DomainWatch

func (watchesOf) Describe(ch chan<- *prometheus.Desc) { domainCollector{}.Describe(ch) }

func (l watchesOf) Collect(ch chan<- prometheus.Metric) {
	for _, w := range l {
		collectWatch(ch, w)
	}
}

func TestCollector_domainWatches(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	err := reg.Register(watchesOf{
		{Name: "san1", Reads: 4, ReadSum: 2 * time.Second, Missed: 1, Quantiles: map[float64]time.Duration{0.5: time.Second / 4, 0.99: time.Second},
			DomainReport: manager.DomainReport{Domain: "a", Code: manager.DomainOK, Looks: 4, Age: time.Second, Acquired: true, MetadataUsed: 1, MetadataSize: 2}},
		{Name: "san2", DomainReport: manager.DomainReport{Domain: "b", Code: manager.DomainUnread, Running: 3 * time.Second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Fatalf("%v %v", problems, err)
	}
	want := `# HELP holdfast_domain_monitor_read_seconds Times of this host's reads of 4 KiB of a domain; the quantiles are of the last 512.
# TYPE holdfast_domain_monitor_read_seconds summary
holdfast_domain_monitor_read_seconds{domain="a",name="san1",quantile="0.5"} 0.25
holdfast_domain_monitor_read_seconds{domain="a",name="san1",quantile="0.99"} 1
holdfast_domain_monitor_read_seconds_sum{domain="a",name="san1"} 2
holdfast_domain_monitor_read_seconds_count{domain="a",name="san1"} 4
holdfast_domain_monitor_read_seconds_sum{domain="b",name="san2"} 0
holdfast_domain_monitor_read_seconds_count{domain="b",name="san2"} 0
# HELP holdfast_domain_monitor_running_seconds How long the look that is under way has been; 0 when none is.
# TYPE holdfast_domain_monitor_running_seconds gauge
holdfast_domain_monitor_running_seconds{domain="a",name="san1"} 0
holdfast_domain_monitor_running_seconds{domain="b",name="san2"} 3
# HELP holdfast_domain_monitor_valid 1 when this host can work with a domain by its last look.
# TYPE holdfast_domain_monitor_valid gauge
holdfast_domain_monitor_valid{domain="a",name="san1"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "holdfast_domain_monitor_read_seconds", "holdfast_domain_monitor_running_seconds",
		"holdfast_domain_monitor_valid"); err != nil {
		t.Error(err)
	}
}

// Before the host is a member nothing is said of domains.
func TestCollector_domainsBeforeMembership(t *testing.T) {
	t.Parallel()
	h := host.New(host.Config{Cluster: cluster.Config{Name: "h1", DataDir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
	if n := testutil.CollectAndCount(domainCollector{h}); n != 0 {
		t.Errorf("%d metrics", n)
	}
}
