package history

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
)

// Pack deflates what is kept of a long write.
func Pack(p []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		panic("deflating at a level that there is: " + err.Error())
	}
	_, _ = w.Write(p) // into memory
	_ = w.Close()
	return b.Bytes()
}

// Bytes are those that a write had, where the record kept them; nil: it did not.
func (e Entry) Bytes() ([]byte, error) {
	if e.Packed == nil {
		return e.Data, nil
	}
	p, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(e.Packed)), e.Len+1))
	if err != nil || int64(len(p)) != e.Len {
		return nil, fmt.Errorf("what was kept of write #%d of %d bytes: %d bytes: %w", e.Seq, e.Len, len(p), err)
	}
	return p, nil
}
