package keeper

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/watchdog"
)

var (
	// ErrGone says that the keeper is not running (any more). No lease is usable; other hosts have to wait for 8N + W
	// unless the keeper ended in order.
	ErrGone = errors.New("keeper is gone: its leases are void, start a new one")
	// ErrNotJoined says that the request needs a lockspace that was not joined.
	ErrNotJoined = errors.New("lockspace is not joined: join it first")
	// ErrInvalid says that a request makes no sense.
	ErrInvalid = errors.New("invalid request to the keeper")
	// ErrDirInUse says that another keeper on the same directory did not end in time.
	ErrDirInUse = errors.New("another keeper still uses this directory")
	// ErrRejoin says that a lost lockspace under which leases were held is not joined again on its own: writes made
	// under them may still land. Restart the agent, or set Rejoin when no I/O is pending.
	ErrRejoin = errors.New("lockspace was lost with leases held")
)

// codes names the errors that travel. The order is that of the sentinels in Unwrap.
var codes = []struct {
	code string
	err  error
}{
	{"held", leases.ErrHeld}, {"host_id_busy", leases.ErrHostIDBusy}, {"lost", leases.ErrLost},
	{"corrupt", leases.ErrCorrupt}, {"no_lease", leases.ErrNoLease}, {"version", leases.ErrVersion},
	{"geometry", leases.ErrGeometry}, {"host_id_range", leases.ErrHostIDRange}, {"held_here", leases.ErrHeldHere},
	{"busy", leases.ErrBusy}, {"not_held", leases.ErrNotHeld}, {"changed", leases.ErrChanged},
	{"lvb", leases.ErrLVB}, {"request", leases.ErrRequest}, {"shared", leases.ErrShared},
	{"leases_held", leases.ErrLeasesHeld}, {"outcome_unknown", blockdev.ErrOutcomeUnknown},
	{"io_timeout", blockdev.ErrTimeout}, {"device_gone", blockdev.ErrGone}, {"read_only", blockdev.ErrReadOnly},
	{"io_pending", blockdev.ErrPending}, {"io_error", unix.EIO},
	{"not_joined", ErrNotJoined}, {"invalid", ErrInvalid}, {"dir_in_use", ErrDirInUse}, {"rejoin", ErrRejoin},
	{"process", ErrProcess}, {"watchdog", watchdog.ErrUnusable}, {"expired", watchdog.ErrExpired},
	{"canceled", context.Canceled}, {"deadline", context.DeadlineExceeded},
}

// wireError is an error on the socket.
type wireError struct {
	Message string            `json:"message"`
	Codes   []string          `json:"codes,omitempty"`
	Held    *leases.HeldError `json:"held,omitempty"`
}

// toWire turns err into what can be sent.
func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Message: err.Error()}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			w.Codes = append(w.Codes, c.code)
		}
	}
	errors.As(err, &w.Held)
	return w
}

// remoteError is an error of the keeper as the agent sees it; errors.Is and errors.As work as they did there.
type remoteError struct {
	message string
	causes  []error
}

// Error implements error.
func (e *remoteError) Error() string { return e.message }

// Unwrap gives the sentinels the error matched in the keeper.
func (e *remoteError) Unwrap() []error { return e.causes }

// fromWire is the reverse of toWire.
func (w *wireError) fromWire() error {
	if w == nil {
		return nil
	}
	e := &remoteError{message: w.Message}
	if w.Held != nil {
		e.causes = append(e.causes, w.Held)
	}
	for _, got := range w.Codes {
		for _, c := range codes {
			if c.code == got {
				e.causes = append(e.causes, c.err)
			}
		}
	}
	return e
}
