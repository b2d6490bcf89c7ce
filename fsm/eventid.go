package fsm

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
)

// EventID is an event's place in the stream: the log entry it came with and its number there.
type EventID struct {
	Index  uint64
	Number uint32
}

// ID is the event's place in the stream.
func (e Event) ID() EventID { return EventID{e.Index, e.Number} }

// String is index.number.
func (id EventID) String() string {
	return strconv.FormatUint(id.Index, 10) + "." + strconv.FormatUint(uint64(id.Number), 10)
}

// Compare is negative when id comes before o.
func (id EventID) Compare(o EventID) int {
	return cmp.Or(cmp.Compare(id.Index, o.Index), cmp.Compare(id.Number, o.Number))
}

// ParseEventID reads index.number. An index alone is the end of that log entry: what comes after it is of later entries.
func ParseEventID(s string) (EventID, error) {
	index, number, dotted := strings.Cut(s, ".")
	i, err := parseDecimal(index, 64)
	if err != nil {
		return EventID{}, badEventID(s)
	}
	if !dotted {
		return EventID{Index: i, Number: math.MaxUint32}, nil
	}
	n, err := parseDecimal(number, 32)
	if err != nil {
		return EventID{}, badEventID(s)
	}
	return EventID{Index: i, Number: uint32(n)}, nil
}

// parseDecimal takes digits only; ParseUint alone takes a sign.
func parseDecimal(s string, bits int) (uint64, error) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 10, bits)
}

func badEventID(s string) error {
	return &RefusedError{Code: CodeInvalid, Message: fmt.Sprintf("event id %q: give index.number of the last event that was seen", cut(s, 64))}
}

// EventsFrom yields the events that came after the given one, oldest first. The given one may be gone already.
func (s *State) EventsFrom(after EventID) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for _, e := range s.events.From(eventKey(after.Index, after.Number)) {
			if e.ID() != after && !yield(e) {
				return
			}
		}
	}
}

// OldestEvent is the id of the oldest event kept; false when there is none. Who asks for what came after an earlier id may
// have missed events.
func (s *State) OldestEvent() (EventID, bool) {
	for _, e := range s.events.All() {
		return e.ID(), true
	}
	return EventID{}, false
}
