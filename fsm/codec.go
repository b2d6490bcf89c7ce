package fsm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// A log entry is
//
//	byte 0    command number, bit 7 = skippable: a replica that does not know the number may pass over it
//	byte 1    version of the command's layout
//	then      request id, a msgpack string (may be empty)
//	then      the command, a msgpack map with one key per field; unknown keys are ignored
//
// Numbers are never reused. A field is added with a new key; a changed meaning takes a new version of the command.
const (
	skippableBit = 0x80
	headerSize   = 2
	// MaxCommandSize is the largest entry that Encode makes and Decode takes. It holds a mirror of 10,000 volumes.
	MaxCommandSize = 32 << 20
)

// Command is one change of the replicated state. The types of this package are the only ones.
type Command interface {
	// MinVersion is the cluster version from which every replica knows the command.
	MinVersion() int
	kind() kind
	apply(t *tables, index uint64) Outcome
}

// errUnknown is the answer for a number or version newer than this program.
var errUnknown = errors.New("unknown command")

func handle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{}
	h.Canonical = true
	h.WriteExt = true
	h.RawToString = true
	h.MaxInitLen = 4096
	return h
}

// Encode makes the log entry of a command. Entries with the same non-empty request id are applied once.
func Encode(c Command, requestID string) ([]byte, error) {
	spec, ok := registry[c.kind()]
	if !ok {
		return nil, fmt.Errorf("encoding command %T: no such command", c)
	}
	var b bytes.Buffer
	first := byte(c.kind())
	if spec.skippable {
		first |= skippableBit
	}
	b.Write([]byte{first, spec.version})
	enc := codec.NewEncoder(&b, handle())
	if err := errors.Join(enc.Encode(requestID), enc.Encode(c)); err != nil {
		return nil, fmt.Errorf("encoding command %s: %w", spec.name, err)
	}
	if b.Len() > MaxCommandSize {
		return nil, fmt.Errorf("encoding command %s: %d bytes exceed the limit of %d", spec.name, b.Len(), MaxCommandSize)
	}
	return b.Bytes(), nil
}

// Decode reads a log entry. It never panics, whatever the bytes.
func Decode(data []byte) (c Command, requestID string, err error) {
	if len(data) < headerSize || len(data) > MaxCommandSize {
		return nil, "", fmt.Errorf("%w: %d bytes", ErrBadCommand, len(data))
	}
	spec, ok := registry[kind(data[0]&^skippableBit)]
	if !ok || data[1] > spec.version {
		return nil, "", fmt.Errorf("%w: number %d version %d", errUnknown, data[0]&^skippableBit, data[1])
	}
	defer func() { // the codec panics on some malformed inputs; such an entry is refused on every replica alike
		if p := recover(); p != nil {
			c, requestID, err = nil, "", fmt.Errorf("%w: %v", ErrBadCommand, p)
		}
	}()
	dec := codec.NewDecoderBytes(data[headerSize:], handle())
	if err := dec.Decode(&requestID); err != nil {
		return nil, "", fmt.Errorf("%w: request id: %w", ErrBadCommand, err)
	}
	c = spec.empty()
	if err := dec.Decode(c); err != nil {
		return nil, "", fmt.Errorf("%w: %s: %w", ErrBadCommand, spec.name, err)
	}
	return c, requestID, nil
}
