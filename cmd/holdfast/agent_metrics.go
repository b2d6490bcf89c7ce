package main

import (
	"fmt"
	"strconv"
	"time"

	metrics_sink "github.com/hashicorp/go-metrics/compat"
	prometheus_sink "github.com/hashicorp/go-metrics/compat/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics is the one registry of the process: Go's own, raft's and serf's, and ours.
type metrics struct {
	registry *prometheus.Registry
	sink     metrics_sink.MetricSink
	requests *prometheus.HistogramVec
	attached *attachMetrics
}

// requestBuckets reach from an answer out of the mirror to a request that waits for a new SPM, in seconds.
var requestBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

func newMetrics() (*metrics, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	sink, err := prometheus_sink.NewPrometheusSinkFrom(prometheus_sink.PrometheusOpts{Registerer: reg})
	if err != nil {
		return nil, fmt.Errorf("making the metrics registry: %w", err)
	}
	requests := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_http_request_seconds",
		Help: "Time to answer a request of the API, by route and status.", Buckets: requestBuckets}, []string{"method", "route", "status"})
	reg.MustRegister(requests)
	return &metrics{registry: reg, sink: sink, requests: requests, attached: newAttachMetrics(reg)}, nil
}

// observe counts one answer of the API.
func (m *metrics) observe(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}
