package export

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-io/holdfast/blockdev"
)

// The control socket carries frames: a length of 32 bits, little endian, and so many bytes of JSON. A client sends calls,
// the process answers each with the same id, in any order.
const maxFrame = 2 << 20

// protocolVersion grows with every change that an older side could not live with.
const protocolVersion = 1

// errFrame says that the other side does not speak this protocol.
var errFrame = errors.New("bad frame")

// Methods of a call.
const (
	methodHello  = "hello"
	methodStatus = "status"
	methodWatch  = "watch"
	methodGrow   = "grow"
	methodDetach = "detach"
)

// call is a frame from the client.
type call struct {
	ID     uint64 `json:"id"`
	Method string `json:"method"`
	// TimeoutMS is how long the client is going to wait.
	TimeoutMS int64         `json:"timeout_ms,omitempty"`
	Seq       uint64        `json:"seq,omitempty"`      // of watch
	Segments  []SegmentSpec `json:"segments,omitempty"` // of grow
}

// answer is a frame from the process.
type answer struct {
	ID     uint64     `json:"id"`
	Error  *wireError `json:"error,omitempty"`
	Status *Status    `json:"status,omitempty"`
	Hello  *Hello     `json:"hello,omitempty"`
}

// Hello is what a process says about itself.
type Hello struct {
	Version int    `json:"version"`
	PID     int    `json:"pid"`
	Spec    Spec   `json:"spec"` // with the segments of this moment
	Status  Status `json:"status"`
}

// writeFrame sends v in one write.
func writeFrame(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a frame: %w", err)
	}
	if len(body) > maxFrame {
		return fmt.Errorf("%w: %d bytes to send", errFrame, len(body))
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err = w.Write(append(b, body...))
	return err
}

// readFrame receives one frame into v.
func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	body, err := io.ReadAll(io.LimitReader(r, int64(n))) // it grows with what arrives, so a lying length costs nothing
	if err != nil {
		return err
	}
	if len(body) < int(n) {
		return io.ErrUnexpectedEOF
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}

// codes names the errors that travel.
var codes = []struct {
	code string
	err  error
}{
	{"no_space", ErrNoSpace}, {"mapping", ErrMapping}, {"detached", ErrDetached}, {"config", ErrConfig}, {"in_use", ErrInUse},
	{"outcome_unknown", blockdev.ErrOutcomeUnknown}, {"io_timeout", blockdev.ErrTimeout}, {"device_gone", blockdev.ErrGone},
	{"read_only", blockdev.ErrReadOnly}, {"lease_lost", blockdev.ErrLeaseLost}, {"io_pending", blockdev.ErrPending},
	{"out_of_range", blockdev.ErrOutOfRange}, {"misaligned", blockdev.ErrMisaligned},
	{"canceled", context.Canceled}, {"deadline", context.DeadlineExceeded},
}

// wireError is an error on the socket.
type wireError struct {
	Message string   `json:"message"`
	Codes   []string `json:"codes,omitempty"`
}

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
	return w
}

// remoteError is an error of the process as the client sees it; errors.Is works as it did there.
type remoteError struct {
	message string
	causes  []error
}

// Error implements error.
func (e *remoteError) Error() string { return e.message }

// Unwrap gives the sentinels that the error matched in the process.
func (e *remoteError) Unwrap() []error { return e.causes }

func (w *wireError) fromWire() error {
	if w == nil {
		return nil
	}
	e := &remoteError{message: w.Message}
	for _, c := range codes {
		for _, got := range w.Codes {
			if got == c.code {
				e.causes = append(e.causes, c.err)
			}
		}
	}
	return e
}
