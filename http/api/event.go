package api

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Event is one line of the pool's history.
type Event struct {
	// ID is INDEX.NUMBER, the event's place in the stream; the same on every host. See EventID.
	ID       string    `json:"id"`
	Index    uint64    `json:"index"`  // the Raft entry it came with
	Number   uint32    `json:"number"` // its place in that entry
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"`
	Severity string    `json:"severity"`
	Host     string    `json:"host,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	Message  string    `json:"message"`
	Reason   string    `json:"reason,omitempty"`   // why it happened
	Evidence string    `json:"evidence,omitempty"` // what was seen
	Epoch    uint64    `json:"epoch,omitempty"`
}

// Place is the event's place in the stream.
func (e Event) Place() EventID { return EventID{e.Index, e.Number} }

// EventGap says that events may be missing: the pool keeps the newest 4,096, and a reader that was away for longer finds
// that those after its last one are gone.
type EventGap struct {
	After  string `json:"after"`  // the last event that the reader has seen
	Oldest string `json:"oldest"` // the oldest that is kept; empty: none is
}

// EventPulse says how new a stream of events is, now and then, whether or not something happens.
type EventPulse struct {
	Host  string `json:"host"`  // that the stream comes from
	Index uint64 `json:"index"` // of its mirror: every event up to there was sent
	AgeMS int64  `json:"age_ms"`
}

// EventEnd is the last thing that a host says in a stream that it ends itself.
type EventEnd struct {
	Reason string `json:"reason"`
	Code   string `json:"code,omitempty"` // of a problem; empty when nothing is wrong: connect again, to any host
}

// Names of what a stream carries besides events, which have none.
const (
	StreamGap       = "gap"       // EventGap
	StreamHeartbeat = "heartbeat" // EventPulse
	StreamEnd       = "end"       // EventEnd
)

// EventID is a place in the stream of events.
type EventID struct {
	Index  uint64
	Number uint32
}

// String is index.number.
func (id EventID) String() string {
	return strconv.FormatUint(id.Index, 10) + "." + strconv.FormatUint(uint64(id.Number), 10)
}

// Compare is negative when id comes before o.
func (id EventID) Compare(o EventID) int {
	return cmp.Or(cmp.Compare(id.Index, o.Index), cmp.Compare(id.Number, o.Number))
}

// ParseEventID reads INDEX.NUMBER, or INDEX alone for the end of that entry.
func ParseEventID(s string) (EventID, error) {
	index, number, dotted := strings.Cut(s, ".")
	id := EventID{Number: math.MaxUint32}
	var err error
	if id.Index, err = digits(index, 64); err == nil && dotted {
		var n uint64
		n, err = digits(number, 32)
		id.Number = uint32(n)
	}
	if err != nil {
		return EventID{}, fmt.Errorf("event id %.40q: give INDEX.NUMBER, the id of an event", s)
	}
	return id, nil
}

// digits takes no sign, unlike ParseUint.
func digits(s string, bits int) (uint64, error) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 10, bits)
}
