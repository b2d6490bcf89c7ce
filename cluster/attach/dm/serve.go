package dm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
)

// What a holder is asked.
const (
	askState  = "state"
	askGrow   = "grow"
	askDetach = "detach"
	askDemote = "demote"
	askEnd    = "end" // answered by the end of the holder
)

// request is one line.
type request struct {
	Ask       string           `json:"ask"`
	TimeoutMS int64            `json:"timeout_ms,omitempty"`
	Segments  []attach.Segment `json:"segments,omitempty"`
}

// limit is how long the one who asks is going to wait.
func (r request) limit() time.Duration {
	if r.TimeoutMS <= 0 || r.TimeoutMS > opTimeout.Milliseconds() {
		return opTimeout
	}
	return time.Duration(r.TimeoutMS) * time.Millisecond
}

// reply is the other line.
type reply struct {
	PID            int      `json:"pid"`
	Volume         string   `json:"volume"`
	Path           string   `json:"path"`
	AllocatedBytes int64    `json:"allocated_bytes"`
	Open           int      `json:"open"`
	Error          string   `json:"error,omitempty"`
	Codes          []string `json:"codes,omitempty"`
}

// codes name the errors that travel.
var codes = map[string]error{
	"open": kernel.ErrOpen, "frozen": kernel.ErrFrozen, "conflict": kernel.ErrConflict, "over": errOver, "not_active": kernel.ErrNotActive,
	"lease_lost": blockdev.ErrLeaseLost, "outcome_unknown": blockdev.ErrOutcomeUnknown, "spec": ErrSpec, "unmappable": kernel.ErrUnmappable,
	"unavailable": kernel.ErrUnavailable, "in_use": errInUse,
}

func (r *reply) refuse(err error) {
	r.Error = err.Error()
	for code, known := range codes {
		if errors.Is(err, known) {
			r.Codes = append(r.Codes, code)
		}
	}
}

// err is the error of the other side, which errors.Is knows as it did there.
func (r *reply) err() error {
	if r.Error == "" {
		return nil
	}
	causes := []error{errors.New(r.Error)}
	for _, c := range r.Codes {
		if known := codes[c]; known != nil {
			causes = append(causes, known)
		}
	}
	return &holderError{causes}
}

// holderError says what the holder said.
type holderError struct{ causes []error }

// Error implements error.
func (e *holderError) Error() string { return e.causes[0].Error() }

// Unwrap gives the sentinels that it matched there.
func (e *holderError) Unwrap() []error { return e.causes }

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func readLine(r io.Reader, v any) error {
	b, err := bufio.NewReader(io.LimitReader(r, maxSpec)).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// errInUse says that another holder answers on the socket.
var errInUse = errors.New("another process looks after this device")

// listen takes the place of a holder that is gone. One that lives keeps it.
func listen(path string) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, errInUse), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

// maxClients bounds the connections; one more is hung up on.
const maxClients = 32

// serve answers until the listener is closed. Connections are counted in all.
func (h *holder) serve(all *sync.WaitGroup) {
	places := make(chan struct{}, maxClients)
	for {
		c, err := h.listen.Accept()
		if err != nil {
			return // closed
		}
		select {
		case places <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		all.Go(func() {
			defer func() { <-places }()
			defer c.Close()
			h.answer(c)
		})
	}
}

// requestTime bounds the coming of a request, and the going of a reply.
const requestTime = 10 * time.Second

func (h *holder) answer(c net.Conn) {
	var q request
	if err := errors.Join(c.SetReadDeadline(time.Now().Add(requestTime)), readLine(c, &q)); err != nil {
		return
	}
	var err error
	switch q.Ask {
	case askState:
	case askGrow:
		err = h.grow(q.limit(), q)
	case askDemote:
		err = h.demote(q.limit())
	case askDetach:
		if err = h.detach(q.limit()); err == nil {
			_ = writeLine(c, reply{PID: os.Getpid(), Volume: h.spec.Volume})
			return
		}
	case askEnd:
		h.untilEnd(c)
		return
	default:
		err = fmt.Errorf("%w: %.40q is not known", ErrSpec, q.Ask)
	}
	r := h.state()
	if err != nil {
		r.Error, r.Codes = "", nil
		r.refuse(err)
	}
	_ = c.SetWriteDeadline(time.Now().Add(requestTime))
	_ = writeLine(c, r) // whoever asked may be gone
}

// untilEnd keeps the connection until the holder ends, or the other side does.
func (h *holder) untilEnd(c net.Conn) {
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-h.ops.Done():
			_ = c.SetReadDeadline(time.Unix(1, 0))
		case <-stop:
		}
	}()
	_, _ = c.Read(make([]byte, 1))
}
