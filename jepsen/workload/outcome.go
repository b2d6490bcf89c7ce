package workload

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// answer is what an operation was told.
type answer struct {
	out          any
	epoch, index uint64
}

// ask does one operation and writes it down.
func (w *worker) ask(ctx context.Context, op history.Op, in any, do func(context.Context) (answer, error)) history.Op {
	reads := readOnly[op.Kind]
	limit := w.conf.Change
	if reads {
		limit = w.conf.Read
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	op.Client, op.Input = w.id, encode(in)
	op.Call = w.since()
	a, err := do(ctx)
	op.Return = w.since()
	op.Outcome, op.Code, op.Error = outcome(err, reads)
	switch op.Outcome {
	case history.OK:
		op.Output, op.Epoch, op.Index = encode(a.out), a.epoch, a.index
	case history.Unknown:
		op.Return = history.Forever
	}
	w.log.Add(op)
	return op
}

// readOnly are the kinds that change nothing.
var readOnly = map[string]bool{history.VolumeList: true, history.VolumeShow: true, history.LeaseShow: true}

// outcome is what a client may believe after an error: what the program itself says, and where it could not say anything
// (a deadline, a lost connection), that a change may have happened. A read has not happened in any case.
func outcome(err error, reads bool) (o history.Outcome, code, text string) {
	if err == nil {
		return history.OK, "", ""
	}
	var e *api.Error
	said := errors.As(err, &e)
	if said {
		code = e.Code
	}
	if !reads && (!said || e.Unknown()) {
		return history.Unknown, code, err.Error()
	}
	return history.Failed, code, err.Error()
}

// encode is the JSON of one of the history's types, which all can be encoded.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("encoding a value of strings and numbers failed: " + err.Error())
	}
	return b
}

// reading draws what kind of read it is to be.
func (w *worker) reading() (client.Read, history.VolumeInput) {
	c := w.chance(w.conf.Consistent)
	return client.Read{Consistent: c}, history.VolumeInput{Consistent: c}
}

// ref is a volume as the history keeps it.
func ref(v api.Volume) history.VolumeRef {
	return history.VolumeRef{ID: v.ID, Name: v.Name, Description: v.Description}
}
