package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// message is one dispatched message of a text/event-stream.
type message struct {
	name string // empty: an event without a name
	id   string // the last id that the stream has given, in this message or before
	data []byte
}

// Bounds of what is taken from a host.
const (
	maxLine    = 256 << 10
	maxMessage = 1 << 20
)

// errTooLong says that a message is larger than any that a host sends.
var errTooLong = errors.New("the stream holds a message that is too long")

// decoder reads a text/event-stream as the HTML standard describes it.
type decoder struct {
	lines  *bufio.Scanner
	lastID string
	begun  bool // the first line was read
}

func newDecoder(r io.Reader) *decoder {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	s.Split(splitLines)
	return &decoder{lines: s}
}

// splitLines ends lines at CR, LF or both, and drops a last line that does not end: it was cut off.
func splitLines(b []byte, atEOF bool) (advance int, token []byte, err error) {
	i := bytes.IndexAny(b, "\r\n")
	switch {
	case i < 0 && atEOF:
		return len(b), nil, nil
	case i < 0:
		return 0, nil, nil
	case b[i] == '\n':
		return i + 1, b[:i], nil
	case i+1 < len(b) && b[i+1] == '\n':
		return i + 2, b[:i], nil
	case i+1 < len(b) || atEOF:
		return i + 1, b[:i], nil
	}
	return 0, nil, nil // a CR at the end: its LF may follow
}

// next reads the next message; messages without data only move the id. io.EOF when the stream ends.
func (d *decoder) next() (message, error) {
	var m message
	var data [][]byte
	size := 0
	for d.lines.Scan() {
		line := d.lines.Text()
		if !d.begun {
			line, d.begun = strings.TrimPrefix(line, "\ufeff"), true
		}
		if line == "" {
			if data == nil {
				m = message{}
				continue
			}
			m.id, m.data = d.lastID, bytes.Join(data, []byte("\n"))
			return m, nil
		}
		name, value := field(line)
		switch name {
		case "event":
			m.name = value
		case "id":
			if !strings.Contains(value, "\x00") {
				d.lastID = value
			}
		case "data":
			if size += len(value); size > maxMessage {
				return message{}, errTooLong
			}
			data = append(data, []byte(value))
		}
	}
	switch err := d.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return message{}, errTooLong
	case err != nil:
		return message{}, fmt.Errorf("reading the stream: %w", err)
	}
	return message{}, io.EOF
}

// field takes a line apart. A comment has no name.
func field(line string) (name, value string) {
	name, value, _ = strings.Cut(line, ":")
	return name, strings.TrimPrefix(value, " ")
}
