package main

import (
	"fmt"

	metrics_sink "github.com/hashicorp/go-metrics/compat"
	prometheus_sink "github.com/hashicorp/go-metrics/compat/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics is the one registry of the process: Go's own, raft's and serf's, and ours.
type metrics struct {
	registry *prometheus.Registry
	sink     metrics_sink.MetricSink
}

func newMetrics() (*metrics, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	sink, err := prometheus_sink.NewPrometheusSinkFrom(prometheus_sink.PrometheusOpts{Registerer: reg})
	if err != nil {
		return nil, fmt.Errorf("making the metrics registry: %w", err)
	}
	return &metrics{registry: reg, sink: sink}, nil
}
