package spm

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Role is this host's part in the SPM role. It is safe for concurrent use.
type Role struct {
	cfg Config
	bug string // a planted mistake, in tests only

	// turn is held by whoever starts, stops or cleans up; one at a time.
	turn chan struct{}
	// left are leases that could not be released, for the next stop: they may be of other domains than the present master. Whoever has
	// the turn uses it.
	left []Lease
	// tasks counts the cleaners of lost sessions, so that Close can wait for them.
	tasks sync.WaitGroup

	// mu guards what follows. changed is closed and replaced at each change.
	mu      sync.Mutex
	status  Status
	session *session
	changed chan struct{}
	closed  bool
}

// Status is this host's own answer about the role.
type Status struct {
	Host      string        `json:"host"`
	HostID    int           `json:"host_id"`
	State     string        `json:"state"`
	Epoch     uint64        `json:"epoch"` // 0 unless serving or stopping
	Since     time.Time     `json:"since"`
	Reason    string        `json:"reason"`
	StartTook time.Duration `json:"start_took_ns"`     // lease held to serving, of the last start
	Backlog   int           `json:"backlog"`           // mirror entries that Raft has not taken
	Domains   []string      `json:"domains,omitempty"` // what is served, the master first
	// Unserved are domains that are to be served and are not, with the reason.
	Unserved map[string]string `json:"unserved,omitempty"`
}

// New makes a Role in state none. Close it.
func New(cfg Config) (*Role, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Role{
		cfg: cfg, turn: make(chan struct{}, 1), changed: make(chan struct{}),
		status: Status{Host: cfg.Host, HostID: cfg.HostID, State: StateNone, Since: cfg.Now(), Reason: "agent started"},
	}, nil
}

// Status returns the role's state.
func (r *Role) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.status
	if r.session != nil {
		st.Backlog = r.session.backlog()
		for _, d := range r.session.domains() {
			st.Domains = append(st.Domains, d.id)
		}
		st.Unserved = r.session.unserved()
	}
	return st
}

// Close stops the role in order and waits for everything it started. Later starts are refused.
func (r *Role) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	_, err := r.Stop(ctx, StopRequest{Reason: "agent stops"})
	r.tasks.Wait()
	return err
}

// set changes the state and wakes watchers.
func (r *Role) set(state string, epoch uint64, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setLocked(state, epoch, reason)
}

// setLocked is set; caller holds mu.
func (r *Role) setLocked(state string, epoch uint64, reason string) {
	r.status.State, r.status.Epoch, r.status.Reason, r.status.Since = state, epoch, reason, r.cfg.Now()
	close(r.changed)
	r.changed = make(chan struct{})
	r.cfg.Log.Info("spm role", "state", state, "epoch", epoch, "reason", reason)
}

// Watch returns when the role is not serving under epoch any more, or when ctx ends. The manager keeps one such call
// open to the SPM: its end, or the end of its connection, is the first sign of a failure.
func (r *Role) Watch(ctx context.Context, epoch uint64) Status {
	for {
		r.mu.Lock()
		st, ch := r.status, r.changed
		r.mu.Unlock()
		if st.State != StateServing || st.Epoch != epoch {
			return st
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return st
		}
	}
}

// take waits for the turn.
func (r *Role) take(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the role: %w (%w)", ErrBusy, ctx.Err())
	}
}

// give gives the turn back.
func (r *Role) give() { <-r.turn }

// serving returns the session that serves, or why there is none.
func (r *Role) serving() (*session, error) {
	r.mu.Lock()
	s, st := r.session, r.status
	r.mu.Unlock()
	if s == nil || st.State != StateServing {
		return nil, r.notSPM("its role is " + st.State + ": " + st.Reason)
	}
	if err := s.guard.Check(r.cfg.Need); err != nil {
		s.fail("the guard refuses: " + err.Error())
		return nil, r.notSPM("its lease is lost: " + err.Error())
	}
	return s, nil
}

// notSPM makes the typed refusal.
func (r *Role) notSPM(reason string) error {
	holder, epoch := r.cfg.Holder()
	if holder == r.cfg.Host {
		holder = "" // the mirror is behind: it is surely not this host
	}
	return &NotSPMError{Holder: holder, Epoch: epoch, Reason: reason}
}
