package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/host"
)

func TestCollector_beforeMembership(t *testing.T) {
	t.Parallel()
	h := host.New(host.Config{Cluster: cluster.Config{Name: "h1", DataDir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
	want := "# HELP holdfast_member 1 when this host belongs to a cluster.\n# TYPE holdfast_member gauge\nholdfast_member 0\n"
	if err := testutil.CollectAndCompare(collector{h}, strings.NewReader(want)); err != nil {
		t.Fatal(err)
	}
}

func TestCollector_namesFollowTheRules(t *testing.T) {
	t.Parallel()
	h := host.New(host.Config{Cluster: cluster.Config{Name: "h1", DataDir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(collector{h}); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v %v", problems, err)
	}
}
