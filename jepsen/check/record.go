// Package check holds the checkers. Each reads the record of a run, changes nothing, and says what it found.
package check

import "github.com/holdfast-io/holdfast/jepsen/history"

// Record is a run's folder, read.
type Record struct {
	Run     history.Run
	Folder  string
	Ops     []history.Op
	Faults  []history.Fault
	Samples []history.Sample
	Entries []history.Entry
}

// Load reads the folder of a run.
func Load(folder string) (Record, error) {
	r := Record{Folder: folder}
	var err error
	if r.Run, err = history.LoadRun(folder); err != nil {
		return r, err
	}
	if r.Ops, err = history.Load[history.Op](folder, history.OpsFile); err != nil {
		return r, err
	}
	if r.Faults, err = history.Load[history.Fault](folder, history.FaultsFile); err != nil {
		return r, err
	}
	if r.Samples, err = history.Load[history.Sample](folder, history.SamplesFile); err != nil {
		return r, err
	}
	r.Entries, err = history.Load[history.Entry](folder, history.WritesFile)
	return r, err
}
