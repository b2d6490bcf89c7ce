package report

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

//go:embed index.html
var indexText string

var indexTemplate = template.Must(template.New("index").Parse(indexText))

// IndexFile is the page over all runs.
const IndexFile = "index.html"

// indexRow is one run in the index.
type indexRow struct {
	Folder, Page, Broken            string
	Began, Length, Profile, Planted string
	Seed                            uint64
	State                           state
	Hosts, Ops, Faults              int

	began time.Time
}

// Index makes the page over the runs whose folders lie in a directory. A folder whose run cannot be read is listed as that.
func Index(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("listing runs: %w", err)
	}
	var rows []indexRow
	for _, e := range entries {
		if e.IsDir() {
			rows = append(rows, indexRowOf(dir, e.Name())...)
		}
	}
	slices.SortStableFunc(rows, func(a, b indexRow) int { return b.began.Compare(a.began) })
	return save(filepath.Join(dir, IndexFile), indexTemplate, struct {
		Style template.CSS
		Runs  []indexRow
	}{template.CSS(styleText), rows}) //nolint:gosec // our own file
}

// indexRowOf is the row of a folder; none when it is no run's.
func indexRowOf(dir, name string) []indexRow {
	folder := filepath.Join(dir, name)
	r, err := history.LoadRun(folder)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return []indexRow{{Folder: name, Broken: err.Error()}}
	}
	row := indexRow{Folder: name, Began: r.Began.Format("2006-01-02 15:04:05"), Length: short(r.Lasted), Profile: r.Profile, Planted: r.Planted,
		Seed: r.Seed, State: stateOf(r), Hosts: len(r.Hosts), began: r.Began,
		Ops: countLines(filepath.Join(folder, history.OpsFile)), Faults: countLines(filepath.Join(folder, history.FaultsFile))}
	if _, err := os.Stat(filepath.Join(folder, history.ReportFile)); err == nil {
		row.Page = name + "/" + history.ReportFile
	}
	return []indexRow{row}
}

// countLines is how many records a file has; what is not there has none.
func countLines(path string) (n int) {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	buf := make([]byte, 1<<16)
	for r := bufio.NewReader(f); ; {
		k, err := r.Read(buf)
		n += bytes.Count(buf[:k], []byte{'\n'})
		if err != nil {
			return n
		}
	}
}
