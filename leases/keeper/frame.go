package keeper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/watchdog"
)

// maxFrame bounds a frame; the list of 2,000 hosts is the longest message.
const maxFrame = 1 << 20

// errFrame says that the other side does not speak this protocol.
var errFrame = errors.New("bad frame")

// Requests by name.
const (
	methodHello     = "hello"
	methodJoin      = "join"
	methodLeave     = "leave"
	methodAcquire   = "acquire"
	methodRelease   = "release"
	methodHosts     = "hosts"
	methodInspect   = "inspect"
	methodFreeHost  = "free_host"
	methodReadHost  = "read_host"
	methodFreeSeen  = "free_record"
	methodDestroy   = "destroy"
	methodShutdown  = "shutdown"
	methodCancel    = "cancel"
	methodConfirm   = "confirm"
	methodStatus    = "status"
	methodAdopt     = "adopt"
	methodHandOver  = "hand_over"
	methodHeld      = "held"
	methodLeaveIdle = "leave_idle"

	methodConvert      = "convert"
	methodRequest      = "request"
	methodClearRequest = "clear_request"
	methodSendEvent    = "send_event"
	methodGetLVB       = "get_lvb"
	methodSetLVB       = "set_lvb"
)

// request is a frame from the agent.
type request struct {
	ID     uint64 `json:"id"`
	Method string `json:"method"`
	// Timeout is the time the agent is going to wait, in nanoseconds.
	Timeout time.Duration `json:"timeout,omitempty"`
	// FDs is how many descriptors come with the frame.
	FDs        int            `json:"fds,omitempty"`
	Lockspace  *LockspaceSpec `json:"lockspace,omitempty"`
	Resource   *ResourceSpec  `json:"resource,omitempty"`
	Name       string         `json:"name,omitempty"`
	HostID     int            `json:"host_id,omitempty"`
	Generation uint64         `json:"generation,omitempty"`

	Record *leases.HostRecord `json:"record,omitempty"`
	// for requests and events
	Lver  uint64           `json:"lver,omitempty"`
	Mode  leases.ForceMode `json:"mode,omitempty"`
	Event uint64           `json:"event,omitempty"`
	Data  uint64           `json:"data,omitempty"`
	Value []byte           `json:"value,omitempty"` // lock value block

	files []*os.File
}

// response is a frame from the keeper. Those without an id are notices.
type response struct {
	ID            uint64               `json:"id"`
	Lost          *Loss                `json:"lost,omitempty"`
	Request       *RequestSeen         `json:"request,omitempty"`
	Event         *eventSeen           `json:"event,omitempty"`
	Value         []byte               `json:"value,omitempty"`
	Protection    *watchdog.Protection `json:"protection,omitempty"`
	Error         *wireError           `json:"error,omitempty"`
	PID           int                  `json:"pid,omitempty"`
	Generation    uint64               `json:"generation,omitempty"`
	Version       uint64               `json:"version,omitempty"`
	LockspaceSlot int                  `json:"lockspace_slot,omitempty"`
	LockspaceJoin uint64               `json:"lockspace_join,omitempty"`
	ResourceSlot  int                  `json:"resource_slot,omitempty"`
	Stays         int                  `json:"stays,omitempty"` // leases that stay beyond their agent
	Hosts         []leases.HostStatus  `json:"hosts,omitempty"`
	Info          *leases.ResourceInfo `json:"info,omitempty"`

	Record *leases.HostRecord `json:"record,omitempty"`
	Held   []Held             `json:"held,omitempty"`
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
	buf := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err = w.Write(append(buf, body...))
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
	// The buffer grows with what arrives, so a lying length costs nothing.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
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
