package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// demoReport is the table of what was done, with times.
type demoReport struct {
	start time.Time
	rows  []demoRow
}

type demoRow struct {
	what   string
	took   time.Duration
	result string // ok, FAILED, left out
	detail string
}

// step runs one step, times it, and notes what came of it.
func (r *demoReport) step(what string, f func() (string, error)) error {
	if r.start.IsZero() {
		r.start = time.Now()
	}
	start := time.Now()
	detail, err := f()
	row := demoRow{what: what, took: time.Since(start), result: "ok", detail: detail}
	if err != nil {
		row.result, row.detail = "FAILED", err.Error()
		err = fmt.Errorf("%s: %w", what, err)
	}
	r.rows = append(r.rows, row)
	return err
}

// leftOut notes a check that could not be made, and why.
func (r *demoReport) leftOut(what, why string) {
	r.rows = append(r.rows, demoRow{what: what, result: "left out", detail: why})
}

// failed reports whether a step went wrong.
func (r *demoReport) failed() bool {
	for _, row := range r.rows {
		if row.result == "FAILED" {
			return true
		}
	}
	return false
}

// print writes the table.
func (r *demoReport) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "     TIME\tRESULT\tSTEP\tDETAIL")
	for _, row := range r.rows {
		fmt.Fprintf(w, "%9s\t%s\t%s\t%s\n", took(row), row.result, row.what, row.detail)
	}
	fmt.Fprintf(w, "%9s\t\tin all\t\n", time.Since(r.start).Round(10*time.Millisecond))
	w.Flush()
}

// took is a time for people: milliseconds under ten seconds.
func took(row demoRow) string {
	switch {
	case row.result == "left out":
		return "-"
	case row.took < 10*time.Second:
		return row.took.Round(100 * time.Microsecond).String()
	}
	return row.took.Round(10 * time.Millisecond).String()
}
