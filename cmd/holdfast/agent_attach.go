package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/cluster/attach/dm"
	"github.com/holdfast-io/holdfast/cluster/attach/nbd"
	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/bootid"
	"github.com/holdfast-io/holdfast/internal/config"
)

// newAttach makes what keeps the volumes that are attached on this host. It and the host need each other, so the host's part
// is found through users.
func newAttach(cfg config.Agent, h *host.Host, extender attach.Extender, m *metrics, log *slog.Logger) (*attach.Manager, error) {
	mappers, err := newMappers(cfg, h, log)
	if err != nil {
		return nil, err
	}
	growth := attach.DefaultGrowth()
	growth.ChunkBytes, growth.UtilizationPercent = cfg.Growth.Chunk, cfg.Growth.Utilization
	boot, err := bootid.Get()
	if err != nil {
		return nil, fmt.Errorf("attached volumes: %w", err)
	}
	storage := h.Attached()
	a, err := attach.New(attach.Config{
		Dir: filepath.Join(cfg.DataDir, "attached"), Boot: boot, Mappers: mappers, Leases: storage, Disks: storage, Extender: extender, Snapshots: storage,
		Growth: growth, Report: h.ReportAttached, Observe: m.attached, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("attached volumes: %w", err)
	}
	return a, nil
}

// newMappers are the ways to make volumes usable on this host: device-mapper where the kernel has it, and exports.
func newMappers(cfg config.Agent, h *host.Host, log *slog.Logger) ([]attach.Mapper, error) {
	run, page := filepath.Dir(cfg.UnixSocket), h.Attached().Page
	exports, err := nbd.New(nbd.Config{Dir: filepath.Join(run, "nbd"), Spawn: spawnExport, Page: page, Log: log})
	if err != nil {
		return nil, err
	}
	devices, err := newDevices(log)
	if errors.Is(err, kernel.ErrUnavailable) {
		return []attach.Mapper{exports}, nil
	}
	if err != nil {
		return nil, err
	}
	blocks, err := dm.New(dm.Config{Dir: filepath.Join(run, "dm"), Spawn: spawnHolder, Page: page, Devices: devices, Log: log})
	if err != nil {
		return nil, err
	}
	return []attach.Mapper{blocks, exports}, nil
}

// users lets the host reach what is made after it.
type users struct{ *attach.Manager }

// growthBuckets reach from an extension over the network to one that had to wait for a LUN, in seconds.
var growthBuckets = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}

var (
	descAttached = newDesc("attached_volumes", "Volumes that are attached on this host.")
	descMapped   = newDesc("attached_mappings", "Volumes of attached chains that are mapped now.")
	descUnmet    = newDesc("attached_waiting", "Attached volumes that asked for space and do not have it yet.")
	descUnmetFor = newDesc("attached_waiting_seconds", "The longest of these waits.")
)

// attachCollector reads what is attached when it is asked.
type attachCollector struct{ attached *attach.Manager }

// Describe lists the metrics.
func (c attachCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descAttached, descMapped, descUnmet, descUnmetFor} {
		ch <- d
	}
}

// Collect answers a scrape.
func (c attachCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.attached.Counts()
	for d, v := range map[*prometheus.Desc]float64{descAttached: float64(n.Attached), descMapped: float64(n.Mapped),
		descUnmet: float64(n.Waiting), descUnmetFor: n.Oldest.Seconds()} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
}

// attachMetrics counts what growing costs.
type attachMetrics struct {
	asked  prometheus.Counter
	grown  prometheus.Histogram
	paused prometheus.Histogram
}

func newAttachMetrics(reg prometheus.Registerer) *attachMetrics {
	m := &attachMetrics{
		asked: prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_attached_extensions_asked_total",
			Help: "Requests for more space for attached volumes."}),
		grown: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "holdfast_attached_extension_seconds",
			Help: "Time from the need of space of an attached volume to its use.", Buckets: growthBuckets}),
		paused: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "holdfast_attached_pause_seconds",
			Help: "Times for which writes to an attached volume waited for space.", Buckets: growthBuckets}),
	}
	reg.MustRegister(m.asked, m.grown, m.paused)
	return m
}

// Asked counts a request for space.
func (m *attachMetrics) Asked() { m.asked.Inc() }

// Grown notes how long an extension took.
func (m *attachMetrics) Grown(took time.Duration) { m.grown.Observe(took.Seconds()) }

// Paused notes how long writes waited.
func (m *attachMetrics) Paused(took time.Duration) { m.paused.Observe(took.Seconds()) }

// sizesEvery is how often this host looks in its mirror for attached volumes that were extended.
const sizesEvery = time.Second

// followSizes makes what is attached here as large as the mirror says that it is. The mirror only hints that somebody had a volume
// extended; the disks say where it lies now.
func followSizes(ctx context.Context, h *host.Host, attached *attach.Manager, log *slog.Logger) {
	tick := time.NewTicker(sizesEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if n := h.Node(); n != nil {
			refreshLarger(ctx, n.View(), attached, log)
		}
	}
}

// refreshLarger is one look.
func refreshLarger(ctx context.Context, st *fsm.State, attached *attach.Manager, log *slog.Logger) {
	for _, a := range attached.List() {
		for _, v := range st.VolumesByID(a.Volume) {
			if v.Domain != a.Domain {
				continue
			}
			if err := attached.Refresh(ctx, v.Domain, v.ID, v.Allocated); err != nil && ctx.Err() == nil {
				log.Warn("an attached volume was extended, and cannot use it yet; this is tried again", "volume", v.ID, "error", err)
			}
		}
	}
}
