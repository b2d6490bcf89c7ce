package main

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	httpapi "github.com/holdfast-io/holdfast/http"
)

// exportedMetric is what /metrics has under one name.
type exportedMetric struct {
	help   string
	labels []string
}

var descText = regexp.MustCompile(`fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)", .*variableLabels: \{([^}]*)\}`)

// exportedMetrics are all metrics of our own.
func exportedMetrics(t *testing.T) map[string]exportedMetric {
	t.Helper()
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(host.Config{Cluster: cluster.Config{Name: "h1", DataDir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
	ch := make(chan *prometheus.Desc, 1000)
	for _, c := range []prometheus.Collector{collector{h}, newStateCollector(h), domainCollector{h}, attachCollector{}, m.requests, m.attached.asked, m.attached.grown, m.attached.paused} {
		c.Describe(ch)
	}
	close(ch)
	out := map[string]exportedMetric{"holdfast_http_event_streams": {help: "Streams of events that this host serves now."}}
	for d := range ch {
		f := descText.FindStringSubmatch(d.String())
		if f == nil {
			t.Fatalf("cannot read %s", d)
		}
		e := exportedMetric{help: strings.ReplaceAll(f[2], `\"`, `"`)}
		for l := range strings.SplitSeq(f[3], ",") {
			if l != "" {
				e.labels = append(e.labels, l)
			}
		}
		out[f[1]] = e
	}
	return out
}

// Two metrics of one name would keep an agent from starting.
func TestMetrics_registerTogether(t *testing.T) {
	t.Parallel()
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(host.Config{Cluster: cluster.Config{Name: "h1", DataDir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
	for _, c := range []prometheus.Collector{collector{h}, domainCollector{h}, attachCollector{}} {
		if err := m.registry.Register(c); err != nil {
			t.Error(err)
		}
	}
	if err := m.registerStates(h, httpapi.New(httpapi.Config{}, httpapi.Backend{})); err != nil {
		t.Error(err)
	}
}

// alertRules is docs/alerts.yaml.
type alertRules struct {
	Groups []struct {
		Name  string      `yaml:"name"`
		Rules []alertRule `yaml:"rules"`
	} `yaml:"groups"`
}

type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// knownValues are the values of labels that rules may ask for, where the program knows them all.
var knownValues = map[string][]string{
	"holdfast_host_state state":               hostStates,
	"holdfast_domain_status status":           domainStatuses,
	"holdfast_spm_state state":                spmStates,
	"holdfast_spm_wish want":                  spmWishes,
	"holdfast_spm_decision row":               {string(manager.RowConflict), string(manager.RowHold), string(manager.RowUnprotected)},
	"holdfast_events_total severity":          {"info", "warning", "error"},
	"holdfast_fence_operations_total outcome": {"done", "failed", "abandoned", "skipped"},
	"holdfast_host_wish want":                 {fsm.WishMaintenance},
	"up job":                                  {"holdfast"},
}

var (
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?(\[[0-9]+[smhd]\])?`)
	matcher  = regexp.MustCompile(`^\s*([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*$`)
	grouping = regexp.MustCompile(`(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
	inText   = regexp.MustCompile(`\$labels\.([a-z_]+)`)
)

// The words of expressions that are no metrics. Of the functions those that want a range are apart.
var (
	exprWords  = []string{"by", "without", "on", "and", "or", "unless", "max", "min", "sum", "count", "avg"}
	rangeWords = []string{"rate", "increase", "changes", "max_over_time", "min_over_time"}
)

// wrongRule finds what is wrong with a rule, by what is exported.
func wrongRule(r alertRule, exported map[string]exportedMetric) (l []string) {
	bad := func(format string, args ...any) { l = append(l, r.Alert+": "+fmt.Sprintf(format, args...)) }
	if r.Alert == "" || r.Expr == "" || r.Annotations["summary"] == "" || r.Annotations["next_step"] == "" || r.Labels["severity"] == "" {
		bad("needs a name, an expression, a summary, a next step and a severity")
	}
	if r.For != "" && !regexp.MustCompile(`^[0-9]+[smhd]$`).MatchString(r.For) {
		bad("for %q is no duration", r.For)
	}
	labels := []string{"instance", "job"}
	plain := grouping.ReplaceAllString(r.Expr, " ")
	metrics := 0
	for _, m := range selector.FindAllStringSubmatchIndex(plain, -1) {
		part := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return plain[m[2*i]:m[2*i+1]]
		}
		name := part(1)
		ranged := part(3) != ""
		switch {
		case slices.Contains(exprWords, name) || slices.Contains(rangeWords, name):
			continue
		case m[0] > 0 && strings.ContainsRune("0123456789.", rune(plain[m[0]-1])):
			continue // the exponent or unit of a number
		}
		metrics++
		e, ok := exported[name]
		if !ok {
			bad("%s is not exported", name)
			continue
		}
		labels = append(labels, e.labels...)
		before := strings.TrimSpace(plain[:m[0]])
		wantsRange := slices.ContainsFunc(rangeWords, func(w string) bool { return strings.HasSuffix(before, w+"(") })
		if ranged != wantsRange {
			bad("%s has a range where none is wanted, or none where one is", name)
		}
		for _, f := range strings.Split(strings.Trim(part(2), "{}"), ",") {
			if f != "" {
				l = append(l, wrongMatcher(r.Alert, name, f, e)...)
			}
		}
	}
	if metrics == 0 {
		bad("asks for no metric")
	}
	l = append(append(l, wrongText(r, labels)...), neverFires(r)...)
	if open, shut := strings.Count(r.Expr, "("), strings.Count(r.Expr, ")"); open != shut {
		bad("%d brackets are opened, %d closed", open, shut)
	}
	if !regexp.MustCompile(`[<>]|==`).MatchString(r.Expr) {
		bad("compares nothing, so it would always fire")
	}
	return l
}

// wrongMatcher looks at one label of a selector.
func wrongMatcher(alert, metric, text string, e exportedMetric) []string {
	f := matcher.FindStringSubmatch(text)
	if f == nil {
		return []string{fmt.Sprintf("%s: cannot read %q", alert, text)}
	}
	if !slices.Contains(e.labels, f[1]) {
		return []string{fmt.Sprintf("%s: %s has no label %s", alert, metric, f[1])}
	}
	known, ok := knownValues[metric+" "+f[1]]
	if !ok {
		return nil
	}
	values := []string{f[3]}
	if strings.HasSuffix(f[2], "~") {
		values = strings.Split(f[3], "|")
	}
	for _, v := range values {
		if !slices.Contains(known, v) {
			return []string{fmt.Sprintf("%s: %s is never %q", alert, f[1], v)}
		}
	}
	return nil
}

// wrongText looks for labels that the rule groups by, or writes about, and that its metrics do not have.
func wrongText(r alertRule, labels []string) (l []string) {
	var grouped []string
	for _, g := range grouping.FindAllStringSubmatch(r.Expr, -1) {
		for w := range strings.SplitSeq(g[1], ",") {
			if w = strings.TrimSpace(w); w != "" {
				grouped = append(grouped, w)
			}
		}
	}
	for _, g := range grouped {
		if !slices.Contains(labels, g) {
			l = append(l, r.Alert+": groups by "+g+", which its metrics do not have")
		}
	}
	left := labels
	if regexp.MustCompile(`\b(max|min|sum|count|avg)\b`).MatchString(r.Expr) {
		left = grouped
	}
	for _, a := range r.Annotations {
		for _, f := range inText.FindAllStringSubmatch(a, -1) {
			if !slices.Contains(left, f[1]) {
				l = append(l, r.Alert+": writes about the label "+f[1]+", which the result does not have")
			}
		}
	}
	return l
}

// summaries are exported in parts too; TestCollector_domainWatches holds their type.
var summaries = []string{"holdfast_domain_monitor_read_seconds"}

// boundedBy are gauges that end by themselves, by what they never exceed in seconds: a rule that asks for more never fires. A look at a
// domain has three times the deadline of a device call, which is 10 s at most.
var boundedBy = map[string]float64{"holdfast_domain_monitor_running_seconds": 30}

var comparison = regexp.MustCompile(`([a-z_]+)\)* *>=? *([0-9.]+)`)

// neverFires finds comparisons of gauges with what they never exceed.
func neverFires(r alertRule) (l []string) {
	for _, m := range comparison.FindAllStringSubmatch(r.Expr, -1) {
		limit, bounded := boundedBy[m[1]]
		if v, err := strconv.ParseFloat(m[2], 64); bounded && (err != nil || v >= limit) {
			l = append(l, fmt.Sprintf("%s: %s is never above %s", r.Alert, m[1], m[2]))
		}
	}
	return l
}

// exportedHere is what rules may ask for; up is Prometheus's own.
func exportedHere(t *testing.T) map[string]exportedMetric {
	exported := exportedMetrics(t)
	exported["up"] = exportedMetric{labels: []string{"instance", "job"}}
	for _, name := range summaries {
		for _, part := range []string{"_sum", "_count"} {
			exported[name+part] = exported[name]
		}
	}
	return exported
}

func TestAlerts_askForWhatIsExported(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rules alertRules
	d := yaml.NewDecoder(strings.NewReader(string(b)))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	exported, names := exportedHere(t), map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			for _, w := range wrongRule(r, exported) {
				t.Error(w)
			}
			if names[r.Alert] {
				t.Errorf("two rules are called %s", r.Alert)
			}
			names[r.Alert] = true
		}
	}
	if len(names) < 20 {
		t.Errorf("only %d rules were read", len(names))
	}
}

func TestAlerts_catchesMistakes(t *testing.T) {
	t.Parallel()
	exported := exportedHere(t)
	good := alertRule{Alert: "A", Expr: `max by (host) (holdfast_host_state{state=~"down|isolated"}) == 1`, For: "1m",
		Labels: map[string]string{"severity": "info"}, Annotations: map[string]string{"summary": "{{ $labels.host }}", "next_step": "look"}}
	if l := wrongRule(good, exported); l != nil {
		t.Fatalf("%q", l)
	}
	for name, change := range map[string]func(r *alertRule){
		"a metric that is not there": func(r *alertRule) { r.Expr = `holdfast_nothing == 1` },
		"a misspelt one":             func(r *alertRule) { r.Expr = strings.ReplaceAll(r.Expr, "host_state", "hosts_state") },
		"a label that is not there":  func(r *alertRule) { r.Expr = strings.ReplaceAll(r.Expr, "state=", "status=") },
		"a state that is not there":  func(r *alertRule) { r.Expr = strings.ReplaceAll(r.Expr, "isolated", "alone") },
		"grouped by nothing":         func(r *alertRule) { r.Expr = strings.ReplaceAll(r.Expr, "(host)", "(domain)") },
		"a text without its label":   func(r *alertRule) { r.Expr = strings.ReplaceAll(r.Expr, "by (host)", "") },
		"no comparison":              func(r *alertRule) { r.Expr = strings.TrimSuffix(r.Expr, "== 1") },
		"brackets":                   func(r *alertRule) { r.Expr = strings.Replace(r.Expr, ")", "", 1) },
		"no metric":                  func(r *alertRule) { r.Expr = `1 == 1` },
		"no next step":               func(r *alertRule) { delete(r.Annotations, "next_step") },
		"never true": func(r *alertRule) {
			r.Expr, r.Annotations["summary"] = `max by (domain) (holdfast_domain_monitor_running_seconds) > 30`, "s"
		},
		"a sum of what has none": func(r *alertRule) {
			r.Expr, r.Annotations["summary"] = `rate(holdfast_host_state_sum[5m]) > 1`, "s"
		},
		"no severity": func(r *alertRule) { r.Labels = nil },
		"no duration": func(r *alertRule) { r.For = "soon" },
		"no range": func(r *alertRule) {
			r.Expr = `max(increase(holdfast_events_total)) > 0`
			r.Annotations["summary"] = "s"
		},
		"a range too many": func(r *alertRule) { r.Expr = `max(holdfast_events_total[5m]) > 0`; r.Annotations["summary"] = "s" },
	} {
		r := good
		r.Annotations, r.Labels = maps.Clone(good.Annotations), maps.Clone(good.Labels)
		change(&r)
		if wrongRule(r, exported) == nil {
			t.Errorf("%s: not noticed in %s", name, r.Expr)
		}
	}
}

// metricsPage is the table of docs/METRICS.md.
func metricsPage(exported map[string]exportedMetric) string {
	var b strings.Builder
	b.WriteString("| metric | labels | meaning |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, strings.Join(exported[name].labels, ", "), exported[name].help)
	}
	return b.String()
}

func TestMetrics_areAllInDocs(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "METRICS.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(page), "| metric |")
	want := head + metricsPage(exportedMetrics(t))
	if *updateGolden {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !ok || string(page) != want {
		t.Error("docs/METRICS.md is not what is exported; run with -update and look at what changed")
	}
}
