package fsm

import "encoding/binary"

// request remembers the outcome of a command, so that a retry with the same request id is not applied again.
type request struct {
	ID      string  `codec:"i"`
	Index   uint64  `codec:"x"`
	Outcome Outcome `codec:"o"`
}

// maxRequests bounds the table. A retry comes within seconds; at 500 commands a second this is half a minute.
const maxRequests = 16384

func (t *tables) remember(id string, index uint64, out Outcome) {
	if id == "" {
		return
	}
	t.requests.put(id, request{ID: id, Index: index, Outcome: out})
	t.requestOrder.put(indexKey(index), id)
	for t.requestOrder.Len() > maxRequests {
		_, oldest := t.requestOrder.removeFirst()
		t.requests.remove(oldest)
	}
}

func (t *tables) recall(id string) (Outcome, bool) {
	if id == "" {
		return Outcome{}, false
	}
	r, ok := t.requests.Get(id)
	r.Outcome.Duplicate = ok
	return r.Outcome, ok
}

func indexKey(index uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], index)
	return string(b[:])
}
