package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// errLeft says that the client ended the negotiation in order.
var errLeft = errors.New("nbd: the client left")

// offer is what a client is told about the export.
type offer struct {
	name  string
	size  int64
	flags uint16
}

// handshake is the negotiation of one connection and, at its end, what was agreed.
type handshake struct {
	r io.Reader
	w io.Writer
	offer
	noZeroes   bool
	structured bool
	allocation bool // the client may ask for block status
}

// run agrees with a client, from the greeting to the start of transmission.
func (h *handshake) run() error {
	if err := h.greet(); err != nil {
		return err
	}
	for range maxOptions {
		o, err := readOption(h.r)
		if err != nil {
			return fmt.Errorf("nbd option: %w", err)
		}
		if done, err := h.answer(o); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d options", errProtocol, maxOptions)
}

func (h *handshake) greet() error {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, greetingSize), magicGreeting)
	b = binary.BigEndian.AppendUint64(b, magicOption)
	b = binary.BigEndian.AppendUint16(b, greetFixedNewstyle|greetNoZeroes)
	if _, err := h.w.Write(b); err != nil {
		return fmt.Errorf("nbd greeting: %w", err)
	}
	var f [4]byte
	if _, err := io.ReadFull(h.r, f[:]); err != nil {
		return fmt.Errorf("nbd greeting: %w", err)
	}
	flags := binary.BigEndian.Uint32(f[:])
	if flags&^(greetFixedNewstyle|greetNoZeroes) != 0 {
		return fmt.Errorf("%w: client flags %#x", errProtocol, flags)
	}
	h.noZeroes = flags&greetNoZeroes != 0
	return nil
}

// answer deals with one option; done starts the transmission.
func (h *handshake) answer(o option) (done bool, err error) {
	switch o.kind {
	case optExportName:
		return true, h.exportName(string(o.data))
	case optAbort:
		return true, errors.Join(h.reply(o, repAck, nil), errLeft)
	case optList:
		return false, h.list(o)
	case optInfo, optGo:
		return h.info(o)
	case optStructured:
		if len(o.data) != 0 {
			return false, h.reply(o, repErrInvalid, nil)
		}
		h.structured = true
		return false, h.reply(o, repAck, nil)
	case optListContext, optSetContext:
		return false, h.contexts(o)
	}
	return false, h.reply(o, repErrUnsup, nil)
}

// knows tells whether a client means this export; the empty name is the default export, and there is one only.
func (h *handshake) knows(name string) bool { return name == "" || name == h.name }

// transmission is the flags of the export for this client: not to cut replies is a matter of chunks.
func (h *handshake) transmission() uint16 {
	if h.structured {
		return h.flags | flagDF
	}
	return h.flags
}

// reply sends one option reply.
func (h *handshake) reply(o option, kind uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 20+len(data)), magicOptReply)
	b = binary.BigEndian.AppendUint32(b, o.kind)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	if _, err := h.w.Write(append(b, data...)); err != nil {
		return fmt.Errorf("nbd option reply: %w", err)
	}
	return nil
}

// exportName is the old way in, which has no way to refuse but to hang up.
func (h *handshake) exportName(name string) error {
	if !h.knows(name) {
		return fmt.Errorf("%w: no export of the name asked for", errProtocol)
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(h.size))
	b = binary.BigEndian.AppendUint16(b, h.transmission())
	if !h.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	_, err := h.w.Write(b)
	return err
}

func (h *handshake) list(o option) error {
	if len(o.data) != 0 {
		return h.reply(o, repErrInvalid, nil)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(h.name)))
	if err := h.reply(o, repServer, append(b, h.name...)); err != nil {
		return err
	}
	return h.reply(o, repAck, nil)
}

// info answers NBD_OPT_INFO and NBD_OPT_GO.
func (h *handshake) info(o option) (done bool, err error) {
	name, ok := decodeGo(o.data)
	switch {
	case !ok:
		return false, h.reply(o, repErrInvalid, nil)
	case !h.knows(name):
		return false, h.reply(o, repErrUnknown, nil)
	}
	e := binary.BigEndian.AppendUint16(nil, infoExport)
	e = binary.BigEndian.AppendUint64(e, uint64(h.size))
	e = binary.BigEndian.AppendUint16(e, h.transmission())
	s := binary.BigEndian.AppendUint16(nil, infoBlockSize)
	for _, n := range []uint32{1, preferredBlock, maxRequest} {
		s = binary.BigEndian.AppendUint32(s, n)
	}
	for _, data := range [][]byte{e, s} {
		if err := h.reply(o, repInfo, data); err != nil {
			return false, err
		}
	}
	return o.kind == optGo, h.reply(o, repAck, nil)
}

// contexts lists or chooses what block status tells.
func (h *handshake) contexts(o option) error {
	q, ok := decodeContextQuery(o.data)
	if o.kind == optSetContext {
		h.allocation = false // each choice replaces the one before, also when it is refused
	}
	switch {
	case !ok || !h.structured:
		return h.reply(o, repErrInvalid, nil)
	case !h.knows(q.name):
		return h.reply(o, repErrUnknown, nil)
	}
	list := o.kind == optListContext
	wanted := q.wantsAllocation(list)
	if !list {
		h.allocation = wanted
	}
	if wanted {
		b := binary.BigEndian.AppendUint32(nil, contextID)
		if err := h.reply(o, repContext, append(b, contextName...)); err != nil {
			return err
		}
	}
	return h.reply(o, repAck, nil)
}
