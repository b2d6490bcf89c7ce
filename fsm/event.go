package fsm

import "encoding/binary"

// Severities of events.
const (
	Info    = "info"
	Warning = "warning"
	Error   = "error"
)

// MaxEvents is how many events are kept; the oldest go first.
const MaxEvents = 4096

// Event is something an operator may want to know about.
type Event struct {
	Index    uint64 `codec:"i" json:"index"` // set when it is applied
	Number   uint32 `codec:"o" json:"number"`
	Time     int64  `codec:"t" json:"time"`
	Kind     string `codec:"k" json:"kind"`
	Severity string `codec:"s" json:"severity"`
	Host     string `codec:"h" json:"host"`
	Subject  string `codec:"u" json:"subject"`
	Message  string `codec:"m" json:"message"`
	Epoch    uint64 `codec:"e" json:"epoch"`
	// Reason says why it happened, Evidence what was seen.
	Reason   string `codec:"r,omitempty" json:"reason,omitempty"`
	Evidence string `codec:"w,omitempty" json:"evidence,omitempty"`
}

// EventAdd appends events. A program that does not know it may skip it.
type EventAdd struct {
	base   `codec:"-"`
	Events []Event `codec:"v"`
}

func (*EventAdd) kind() kind { return kindEventAdd }

func (c *EventAdd) apply(t *tables, index uint64) Outcome {
	for _, e := range c.Events {
		t.addEvent(index, e)
	}
	return Outcome{}
}

func (t *tables) addEvent(index uint64, e Event) {
	e.Index, e.Number = index, 0
	e.Reason, e.Evidence = cut(e.Reason, MaxReason), cut(e.Evidence, MaxEvidence)
	if last, ok := t.lastEvent(); ok && last.Index == index {
		e.Number = last.Number + 1
	}
	t.events.put(eventKey(e.Index, e.Number), e)
	if t.events.Len() > MaxEvents {
		t.events.removeFirst()
	}
}

func (t *tables) lastEvent() (Event, bool) {
	e, ok := t.events.tree.Max()
	if !ok {
		return Event{}, false
	}
	return *e.val, true
}

func eventKey(index uint64, number uint32) string {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:8], index)
	binary.BigEndian.PutUint32(b[8:], number)
	return string(b[:])
}

// EventCount is how many events are kept.
func (s *State) EventCount() int { return s.events.Len() }

// Events lists the events kept, oldest first.
func (s *State) Events() []Event { return s.events.Values() }
