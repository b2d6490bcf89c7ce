package qmp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds one message; a list of 1,000 block nodes has less than half of it.
const maxLine = 8 << 20

// message is any line of QEMU's. Exactly one of the pointers is there.
type message struct {
	Greeting *greeting       `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *Error          `json:"error"`
	Event    string          `json:"event"`
	Data     json.RawMessage `json:"data"`
	ID       *uint64         `json:"id"`
}

type greeting struct {
	Version struct {
		QEMU struct{ Major, Minor, Micro int } `json:"qemu"`
	} `json:"version"`
}

// command is a line of ours.
type command struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        uint64 `json:"id"`
}

// Event is something that happened in QEMU.
type Event struct {
	Name string
	Data json.RawMessage
}

// decode reads one line and checks that it is one thing only.
func decode(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	n := 0
	for _, there := range [...]bool{m.Greeting != nil, m.Return != nil, m.Error != nil, m.Event != ""} {
		if there {
			n++
		}
	}
	if n != 1 {
		return message{}, fmt.Errorf("%w: %.80q", ErrProtocol, line)
	}
	return m, nil
}

// readLine reads up to the next line feed, not more than maxLine.
func readLine(r *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(out)+len(part) > maxLine {
			return nil, fmt.Errorf("%w: a line above %d bytes", ErrProtocol, maxLine)
		}
		out = append(out, part...)
		switch {
		case err == nil:
			if line := bytes.TrimSpace(out); len(line) > 0 {
				return line, nil
			}
			out = out[:0]
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(out) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}
