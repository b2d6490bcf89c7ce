package workload

import (
	"context"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// register draws a volume that is there for its description, and makes it if need be. nil: this client made it, or
// another one is about to, which was this client's operation.
func (w *worker) register(ctx context.Context) *name {
	n := w.texts.pick(w.rnd)
	mine, born := w.texts.make(n)
	if mine {
		op := w.createAs(ctx, w.texts, n, history.VolumeInput{Idempotency: uuid.NewString(), Size: volumeSize, Format: api.FormatQCOW2, Description: w.text()})
		w.texts.birth(n, op.Outcome)
	}
	if !born {
		return nil
	}
	return n
}

// text is a description that nobody has written before.
func (w *worker) text() string { return "text " + uuid.NewString() }

// describe writes a description.
func (w *worker) describe(ctx context.Context) {
	n := w.register(ctx)
	if n == nil {
		return
	}
	a := w.agent()
	in := history.VolumeInput{Description: w.text()}
	op := w.ask(ctx, history.Op{Kind: history.VolumeDescribe, Key: n.text, Host: a.name}, in, func(ctx context.Context) (answer, error) {
		got, err := a.describe.DescribeVolume(ctx, n.text, in.Description)
		v := history.VolumeRef{ID: got.ID, Name: n.text, Description: in.Description}
		return answer{history.VolumeAnswer{VolumeRef: v, Mirrored: got.Mirrored}, got.Epoch, got.Index}, err
	})
	w.texts.learn(n, op, "")
}
