package mailbox

import "fmt"

const (
	eventCode = "\x00evt"
	eventAt   = len(eventCode)
	eventSize = eventAt + len(UUID{})
)

// encodeEvent returns the event block that says id.
func encodeEvent(id UUID) []byte {
	p := make([]byte, pageSize)
	copy(p, eventCode)
	copy(p[eventAt:], id[:])
	return p
}

// DecodeEvent reads the UUID of an event block, nil when nobody ever rang. Only whether it changed means anything.
// The code in front of it is not looked at: no SPM does.
func DecodeEvent(b []byte) (UUID, error) {
	if len(b) < eventSize {
		return UUID{}, fmt.Errorf("%w: event block of %d bytes", ErrCorrupt, len(b))
	}
	return UUID(b[eventAt:eventSize]), nil
}
