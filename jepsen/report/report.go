// Package report makes one page of a run, and an index over runs. A page is one file: styles and pictures are in it, nothing is
// loaded from anywhere, so it can be mailed, kept, and opened in ten years.
package report

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

//go:embed page.html
var pageText string

//go:embed style.css
var styleText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what the template shows.
type page struct {
	Style    template.CSS
	Title    string
	State    state
	Facts    []fact
	Verdicts []history.Verdict
	Missing  []string // what could not be read of the run
	Timeline picture
	Plots    []picture
	Avail    []availRow
	Files    []file
	Hosts    []string
}

type fact struct{ Name, Value string }

type file struct {
	Name string
	Size string
}

// state is a run's verdict in a word.
type state struct{ Class, Word string }

// stateOf is the verdict over all verdicts. A run that nobody judged did not pass.
func stateOf(r history.Run) state {
	failed := 0
	for _, v := range r.Verdicts {
		if !v.OK {
			failed++
		}
	}
	switch {
	case len(r.Verdicts) == 0:
		return state{"none", "not judged"}
	case failed > 0:
		return state{"fail", fmt.Sprintf("%d of %d failed", failed, len(r.Verdicts))}
	}
	return state{"pass", "passed"}
}

// Write makes the page of the run in a folder, from what is there. Only a folder without a first page is refused: a run that ended
// badly is the one whose page is wanted most, so it says what is missing and shows the rest.
func Write(folder string) error {
	r, missing, err := load(folder)
	if err != nil {
		return err
	}
	states, err := hostLeases(r)
	if err != nil {
		missing = append(missing, err.Error())
	}
	p := page{Style: template.CSS(styleText), Title: fmt.Sprintf("Run of seed %d", r.Run.Seed), State: stateOf(r.Run), Hosts: r.Run.Hosts, //nolint:gosec // our own file
		Facts: factsOf(r), Verdicts: sorted(r.Run.Verdicts), Missing: missing,
		Timeline: timeline(r, states), Plots: latencies(r), Avail: availRows(r)}
	if p.Files, err = files(folder); err != nil {
		return err
	}
	return save(filepath.Join(folder, history.ReportFile), pageTemplate, p)
}

// save writes a page so that a reader sees the old or the new one.
func save(path string, t *template.Template, v any) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".page")
	if err != nil {
		return fmt.Errorf("writing a page: %w", err)
	}
	defer os.Remove(f.Name()) // gone when all went well
	err = t.Execute(f, v)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// load reads what there is of a run.
func load(folder string) (r check.Record, missing []string, err error) {
	r.Folder = folder
	if r.Run, err = history.LoadRun(folder); err != nil {
		return r, nil, err
	}
	note := func(err error) {
		if err != nil {
			missing = append(missing, err.Error())
		}
	}
	r.Ops, err = history.Load[history.Op](folder, history.OpsFile)
	note(err)
	r.Faults, err = history.Load[history.Fault](folder, history.FaultsFile)
	note(err)
	r.Samples, err = history.Load[history.Sample](folder, history.SamplesFile)
	note(err)
	r.Entries, err = history.Load[history.Entry](folder, history.WritesFile)
	note(err)
	if r.Run.Lasted <= 0 { // it was cut off: what was seen last is the end
		r.Run.Lasted = lastSeen(r)
	}
	return r, missing, nil
}

// hostLeases are the states of the hosts' records on the LUN.
func hostLeases(r check.Record) ([]check.HostState, error) {
	expiry := 8 * r.Run.Bounds.IOTimeout // as sanlock has it
	all, err := check.HostStates(r, expiry, expiry+r.Run.Bounds.Watchdog)
	if err != nil {
		return nil, fmt.Errorf("the states of the hosts' leases: %w", err)
	}
	return all, nil
}

func lastSeen(r check.Record) time.Duration {
	last := time.Second
	for _, o := range r.Ops {
		last = max(last, o.Call)
	}
	for _, s := range r.Samples {
		last = max(last, s.At)
	}
	return last
}

func factsOf(r check.Record) []fact {
	n := map[history.Outcome]int{}
	for _, o := range r.Ops {
		n[o.Outcome]++
	}
	missed := 0
	for _, f := range r.Faults {
		if f.Error != "" {
			missed++
		}
	}
	all := []fact{
		{"began", r.Run.Began.Format("2006-01-02 15:04:05 MST")}, {"lasted", short(r.Run.Lasted)}, {"seed", fmt.Sprint(r.Run.Seed)},
		{"version", r.Run.Version}, {"hosts", fmt.Sprint(len(r.Run.Hosts))}, {"profile", r.Run.Profile},
		{"bounds", fmt.Sprintf("N %s, W %s", short(r.Run.Bounds.IOTimeout), short(r.Run.Bounds.Watchdog))},
		{"operations", fmt.Sprintf("%d ok, %d failed, %d unknown", n[history.OK], n[history.Failed], n[history.Unknown])},
		{"faults", fmt.Sprintf("%d, %d with an error", len(r.Faults), missed)},
	}
	if r.Run.Planted != "" {
		all = append(all, fact{"planted", r.Run.Planted})
	}
	return all
}

// sorted puts the failed verdicts first.
func sorted(all []history.Verdict) []history.Verdict {
	all = slices.Clone(all)
	rank := map[bool]int{false: 0, true: 1}
	slices.SortStableFunc(all, func(a, b history.Verdict) int { return rank[a.OK] - rank[b.OK] })
	return all
}

// files lists what else is in the folder.
func files(folder string) ([]file, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("listing a run's folder: %w", err)
	}
	var all []file
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || e.IsDir() || e.Name() == history.ReportFile || e.Name()[0] == '.' {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing a run's folder: %w", err)
		}
		all = append(all, file{Name: e.Name(), Size: bytesOf(info.Size())})
	}
	return all, nil
}

func bytesOf(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// short prints a time with as many digits as matter.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// availRow is a row of the table of availability, printed.
type availRow struct {
	check.AvailRow
	P50s, P99s, Maxs, Bounds string
}

func availRows(r check.Record) []availRow {
	var all []availRow
	for _, a := range check.Availability(r) {
		row := availRow{AvailRow: a, P50s: short(a.P50), P99s: short(a.P99), Maxs: short(a.Max)}
		if a.Bound > 0 {
			row.Bounds = short(a.Bound)
		}
		all = append(all, row)
	}
	return all
}
