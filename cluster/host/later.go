package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// laterFile keeps events that could not be recorded yet, in the data directory.
const laterFile = "events.pending"

// maxLater bounds them; the oldest go first.
const maxLater = 256

// later records events of this host when the cluster can be reached. They survive a restart of the agent: what cut the host
// off is often what people want to know, and the host cannot tell it then.
type later struct {
	path string
	log  *slog.Logger
	kick chan struct{}

	mu   sync.Mutex // guards list and the file
	list []fsm.Event
}

// newLater takes up what an earlier agent could not record.
func newLater(dir string, log *slog.Logger) *later {
	l := &later{path: filepath.Join(dir, laterFile), log: log, kick: make(chan struct{}, 1)}
	b, err := os.ReadFile(l.path)
	if err == nil {
		err = json.Unmarshal(b, &l.list)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("events of an earlier run are lost", "file", l.path, "err", err)
	}
	return l
}

// add keeps an event for later. It does not wait for the cluster.
func (l *later) add(e fsm.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, e)
	if len(l.list) > maxLater {
		l.list = l.list[len(l.list)-maxLater:]
	}
	select {
	case l.kick <- struct{}{}:
	default:
	}
	return l.save()
}

// save writes the list to the file; the caller holds mu.
func (l *later) save() error {
	if len(l.list) == 0 {
		return os.RemoveAll(l.path)
	}
	b, err := json.Marshal(l.list)
	if err != nil {
		return fmt.Errorf("keeping events: %w", err)
	}
	tmp := l.path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("keeping events: %w", err)
	}
	return os.Rename(tmp, l.path)
}

// Times of recording.
const (
	laterTimeout = 5 * time.Second
	laterRetry   = 500 * time.Millisecond
)

// run records what is kept until ctx ends.
func (l *later) run(ctx context.Context, a applier) {
	for {
		wait := time.Duration(-1)
		if !l.flush(ctx, a) {
			wait = laterRetry
		}
		var again <-chan time.Time
		if wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.kick:
		case <-again:
		}
	}
}

// flush records all that is kept, in one command, and reports whether nothing is left.
func (l *later) flush(ctx context.Context, a applier) bool {
	l.mu.Lock()
	batch := append([]fsm.Event(nil), l.list...)
	l.mu.Unlock()
	if len(batch) == 0 {
		return true
	}
	actx, cancel := context.WithTimeout(ctx, laterTimeout)
	defer cancel()
	if err := apply(actx, a, &fsm.EventAdd{Events: batch}); err != nil {
		l.log.Debug("events cannot be recorded yet", "events", len(batch), "err", err)
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = l.list[min(len(batch), len(l.list)):]
	if err := l.save(); err != nil {
		l.log.Warn("events are kept though they are recorded", "err", err)
	}
	return len(l.list) == 0
}
