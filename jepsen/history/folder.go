package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// The files of a run's folder. Agents' logs are in HOST.log.
const (
	RunFile     = "run.json"
	OpsFile     = "history.jsonl"
	FaultsFile  = "faults.jsonl"
	SamplesFile = "samples.jsonl"
	WritesFile  = "lun.jsonl"
	ReportFile  = "report.html"
)

// Log writes records of one kind to a file, one line each. It is safe for concurrent use.
type Log[T any] struct {
	mu  sync.Mutex // guards all below
	f   *os.File
	w   *bufio.Writer
	n   int
	err error
}

// NewLog makes the file name in a folder.
func NewLog[T any](folder, name string) (*Log[T], error) {
	f, err := os.OpenFile(filepath.Join(folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making a run's record: %w", err)
	}
	return &Log[T]{f: f, w: bufio.NewWriterSize(f, 1<<16)}, nil
}

// Add writes a record. What goes wrong is said by Close.
func (l *Log[T]) Add(v T) {
	b, err := json.Marshal(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = l.w.Write(append(b, '\n'))
	}
	if err != nil && l.err == nil {
		l.err = err
	}
	l.n++
}

// Len is the number of records.
func (l *Log[T]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// Close ends the file.
func (l *Log[T]) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.w.Flush(), l.f.Close())
}

// Load reads the records of a file. Unlike a log after a crash, a run's record is whole or it is worth nothing.
func Load[T any](folder, name string) ([]T, error) {
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return nil, fmt.Errorf("reading a run's record: %w", err)
	}
	defer f.Close()
	var all []T
	for dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<16)); ; {
		var v T
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading %s, record %d: %w", name, len(all), err)
		}
		all = append(all, v)
	}
}

// SaveRun writes the first page.
func SaveRun(folder string, r Run) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, RunFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing a run's first page: %w", err)
	}
	return nil
}

// LoadRun reads the first page.
func LoadRun(folder string) (Run, error) {
	var r Run
	b, err := os.ReadFile(filepath.Join(folder, RunFile))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("reading a run's first page: %w", err)
	}
	return r, nil
}
