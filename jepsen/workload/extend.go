package workload

import (
	"context"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Sizes of the volumes that are extended: each operation asks for an extent more than the last one did, up to what the volume can use.
const (
	thinCapacity = 2 << 30
	thinStep     = 128 << 20
	thinSteps    = 16
	// mailShare is how many extensions go through the storage alone.
	mailShare = 0.2
)

// extend makes a thin volume larger by way of a host, which asks the SPM on whatever way there is.
func (w *worker) extend(ctx context.Context) {
	n := w.thin.pick(w.rnd)
	mine, born := w.thin.make(n)
	if mine {
		op := w.createAs(ctx, w.thin, n, history.VolumeInput{Idempotency: uuid.NewString(), Size: thinCapacity, Format: api.FormatQCOW2, Initial: thinStep / 2})
		w.thin.birth(n, op.Outcome)
	}
	if !born {
		return
	}
	a := w.agent()
	in := history.VolumeInput{Size: thinStep * int64(w.thin.steps(n)), Storage: w.chance(mailShare)}
	op := w.ask(ctx, history.Op{Kind: history.VolumeExtend, Key: n.text, Host: a.name}, in, func(ctx context.Context) (answer, error) {
		got, err := a.api.ExtendVolume(ctx, n.text, api.VolumeExtend{Size: in.Size, ThroughStorage: in.Storage})
		return answer{history.VolumeAnswer{VolumeRef: ref(got.Volume), Mirrored: got.Mirrored, Allocated: got.Allocated}, got.Epoch, got.Index}, err
	})
	w.thin.learn(n, op, "")
}

// steps is how many extents an extension asks for: more with each operation on the name.
func (s *names) steps(n *name) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return 1 + min(n.ops, thinSteps)
}
