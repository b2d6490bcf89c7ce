package export

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

const (
	maxOption  = 64 << 10 // bytes of one option; names have at most 4096
	maxOptions = 64       // of one negotiation
	maxQueries = 64       // of one list of contexts
)

// option is one option of the negotiation.
type option struct {
	kind uint32
	data []byte
}

// readOption reads one option; its memory grows with what arrives.
func readOption(r io.Reader) (option, error) {
	var b [optionSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return option{}, err
	}
	n := binary.BigEndian.Uint32(b[12:])
	if binary.BigEndian.Uint64(b[:]) != magicOption || n > maxOption {
		return option{}, fmt.Errorf("%w: option %x", errProtocol, b)
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(data) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return option{kind: binary.BigEndian.Uint32(b[8:]), data: data}, err
}

// cutString takes a string with a length of 32 bits off the front of b.
func cutString(b []byte) (text string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	if uint64(n) > uint64(len(b)) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// decodeGo takes the name out of NBD_OPT_GO or NBD_OPT_INFO. What the client asks to be told is checked and not
// needed: it is told everything.
func decodeGo(b []byte) (name string, ok bool) {
	name, b, ok = cutString(b)
	if !ok || len(b) < 2 || len(b) != 2+2*int(binary.BigEndian.Uint16(b)) {
		return "", false
	}
	return name, true
}

// contextQuery is NBD_OPT_LIST_META_CONTEXT or NBD_OPT_SET_META_CONTEXT.
type contextQuery struct {
	name    string
	queries []string
}

func decodeContextQuery(b []byte) (q contextQuery, ok bool) {
	if q.name, b, ok = cutString(b); !ok || len(b) < 4 {
		return q, false
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; n > maxQueries {
		return q, false
	}
	for range n {
		var text string
		if text, b, ok = cutString(b); !ok {
			return q, false
		}
		q.queries = append(q.queries, text)
	}
	return q, len(b) == 0
}

// wantsAllocation tells whether the query names base:allocation. A list may ask for a whole namespace or everything.
func (q contextQuery) wantsAllocation(list bool) bool {
	for _, text := range q.queries {
		if text == contextName || list && text == strings.SplitAfter(contextName, ":")[0] {
			return true
		}
	}
	return list && len(q.queries) == 0
}
