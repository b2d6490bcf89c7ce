package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// guestMonitor listens to a QEMU as libvirt does. It shares no code with the client that the product has.
type guestMonitor struct {
	conn    net.Conn
	done    chan struct{}        // closed when QEMU has hung up
	replies chan json.RawMessage // of one command at a time

	mu     sync.Mutex // guards events
	events []guestEvent
}

// guestEvent is one thing that QEMU told.
type guestEvent struct {
	Event string `json:"event"`
	Data  struct {
		Action    string `json:"action"`
		NoSpace   bool   `json:"nospace"`
		Reason    string `json:"reason"`
		Operation string `json:"operation"`
	} `json:"data"`
}

// listenTo connects to a QEMU that is being started.
func listenTo(t *testing.T, socket string) *guestMonitor {
	t.Helper()
	m := &guestMonitor{done: make(chan struct{}), replies: make(chan json.RawMessage, 1)}
	if err := poll(deadline(t, time.Minute), "QEMU listens", func() (err error) {
		m.conn, err = net.Dial("unix", socket)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	go m.read()
	t.Cleanup(func() { _ = m.conn.Close(); <-m.done })
	if _, err := m.do("qmp_capabilities"); err != nil {
		t.Fatal(err)
	}
	return m
}

// read takes in what QEMU says until it hangs up.
func (m *guestMonitor) read() {
	defer close(m.done)
	lines := bufio.NewScanner(m.conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var said struct {
			guestEvent
			Return json.RawMessage `json:"return"`
			Error  json.RawMessage `json:"error"`
		}
		switch err := json.Unmarshal(lines.Bytes(), &said); {
		case err != nil:
			m.note(guestEvent{Event: "unreadable: " + lines.Text()})
		case said.Event != "":
			m.note(said.guestEvent)
		case said.Return != nil:
			m.replies <- said.Return
		case said.Error != nil:
			m.note(guestEvent{Event: "error: " + string(said.Error)})
		}
	}
}

func (m *guestMonitor) note(e guestEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
}

// do gives a command without arguments and returns the answer.
func (m *guestMonitor) do(command string) (json.RawMessage, error) {
	if _, err := fmt.Fprintf(m.conn, "{\"execute\":%q}\n", command); err != nil {
		return nil, err
	}
	select {
	case r := <-m.replies:
		return r, nil
	case <-m.done:
		return nil, fmt.Errorf("%s: QEMU has hung up", command)
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("%s: no answer for a minute; events %+v", command, m.all())
	}
}

func (m *guestMonitor) all() []guestEvent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

// unwanted are the events that a guest which always has its space never causes.
func unwanted(events []guestEvent) []guestEvent {
	return slices.DeleteFunc(slices.Clone(events), func(e guestEvent) bool {
		switch e.Event {
		case "RESUME", "POWERDOWN", "SHUTDOWN", "NIC_RX_FILTER_CHANGED", "RTC_CHANGE", "BLOCK_WRITE_THRESHOLD": // the last is Holdfast's own wish
			return true
		case "STOP": // of its end, and not of an error
			return slices.ContainsFunc(events, func(e guestEvent) bool { return e.Event == "SHUTDOWN" }) &&
				!slices.ContainsFunc(events, func(e guestEvent) bool { return e.Event == "BLOCK_IO_ERROR" })
		}
		return false
	})
}

// paused tells whether QEMU has stopped the guest for want of space.
func paused(events []guestEvent) bool {
	last := ""
	for _, e := range events {
		if e.Event == "STOP" || e.Event == "RESUME" {
			last = e.Event
		}
	}
	return last == "STOP" && slices.ContainsFunc(events, func(e guestEvent) bool { return e.Event == "BLOCK_IO_ERROR" && e.Data.NoSpace })
}

// resumed are the events since the guest last went on.
func resumed(events []guestEvent) []guestEvent {
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Event == "RESUME" {
			return events[i+1:]
		}
	}
	return events
}

// A pause or an error that comes while there is space must be seen, and the ordered end must not be taken for one.
func TestGuestEvents(t *testing.T) {
	t.Parallel()
	event := func(name string) guestEvent { return guestEvent{Event: name} }
	failed, short := event("BLOCK_IO_ERROR"), event("BLOCK_IO_ERROR")
	failed.Data.Action, short.Data.Action, short.Data.NoSpace = "stop", "stop", true
	for name, c := range map[string]struct {
		events   []guestEvent
		unwanted int
		paused   bool
	}{
		"well":                 {[]guestEvent{event("RESUME"), event("SHUTDOWN"), event("STOP")}, 0, false},
		"an error":             {[]guestEvent{failed, event("STOP")}, 2, false},
		"a pause":              {[]guestEvent{short, event("STOP")}, 2, true},
		"a pause that is over": {[]guestEvent{short, event("STOP"), event("RESUME")}, 2, false},
		"stopped by somebody":  {[]guestEvent{event("STOP")}, 1, false},
		"a panic":              {[]guestEvent{event("GUEST_PANICKED")}, 1, false},
		"paused, then an end":  {resumed([]guestEvent{short, event("STOP"), event("RESUME"), event("SHUTDOWN"), event("STOP")}), 0, false},
		"paused again":         {resumed([]guestEvent{event("RESUME"), short, event("STOP")}), 2, true},
	} {
		if n, p := len(unwanted(c.events)), paused(c.events); n != c.unwanted || p != c.paused {
			t.Errorf("%s: %d unwanted, paused %t", name, n, p)
		}
	}
}
