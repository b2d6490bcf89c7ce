// Package check holds the checkers. Each reads the record of a run, changes nothing, and says what it found.
package check

import (
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Record is a run's folder, loaded.
type Record struct {
	Folder  string // the agents' logs are there
	Run     history.Run
	Ops     []history.Op
	Faults  []history.Fault
	Samples []history.Sample
	Entries []history.Entry
	Final   *history.Final // nil: the run did not come so far
}

// Checker judges a record.
type Checker func(Record) history.Verdict

// Load reads a run's folder.
func Load(folder string) (Record, error) {
	r := Record{Folder: folder}
	errs := make([]error, 6)
	r.Run, errs[0] = history.LoadRun(folder)
	r.Ops, errs[1] = history.Load[history.Op](folder, history.OpsFile)
	r.Faults, errs[2] = history.Load[history.Fault](folder, history.FaultsFile)
	r.Samples, errs[3] = history.Load[history.Sample](folder, history.SamplesFile)
	r.Entries, errs[4] = history.Load[history.Entry](folder, history.WritesFile)
	r.Final, errs[5] = history.LoadFinal(folder)
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("loading the run in %s, which must be whole to be judged: %w", folder, err)
	}
	return r, nil
}

// Clients are the checkers of what the clients were told.
func Clients() []Checker {
	return []Checker{Enough, LinearVolumes, LinearDisk, LinearRegisters, LinearLeases, Mirrors, Keys, Epochs, Lists, Tokens, FinalSet}
}

// maxLines bounds how much a verdict says.
const maxLines = 20

// judged makes a verdict of what was found.
func judged(checker string, found []string, format string, args ...any) history.Verdict {
	v := history.Verdict{Checker: checker, OK: len(found) == 0, Summary: fmt.Sprintf(format, args...), Faults: found}
	if n := len(found); n > maxLines {
		v.Faults = append(found[:maxLines:maxLines], fmt.Sprintf("and %d more", n-maxLines))
	}
	if !v.OK {
		v.Summary = fmt.Sprintf("%d found; %s", len(found), v.Summary)
	}
	return v
}
