package attach

import (
	"context"
	"errors"
	"sync"

	"github.com/holdfast-io/holdfast/blockdev/mapper/qmp"
)

// guested is a mapping together with the guest that uses it. What the mapping does not know the guest's QEMU does: how far it is
// written, where device-mapper is the mapping, and whether the guest was paused. After growing, a paused guest goes on.
type guested struct {
	Mapping
	guest *qmp.Volume

	mu   sync.Mutex // guards what follows: the states that Watch has seen
	m, g uint64
}

// Status is that of both.
func (x *guested) Status(ctx context.Context) (Status, error) {
	st, err := x.Mapping.Status(ctx)
	return merge(st, x.guest.Status()), err
}

// merge is what both say. Each part's events are counted, so that the sum changes with every one.
func merge(m Status, g qmp.Status) Status {
	m.Seq += g.Seq
	m.HighBytes = max(m.HighBytes, g.HighBytes)
	m.WantBytes = max(m.WantBytes, g.WantBytes)
	m.Low = m.Low || g.Low && m.AllocatedBytes < m.SizeBytes
	m.Waiting += g.Waiting
	m.Denied += g.Denied
	m.GrowRate = max(m.GrowRate, g.GrowRate)
	if m.LastError == "" {
		m.LastError = g.LastError
	}
	return m
}

// seen is where both were when they were last looked at.
func (x *guested) seen() (m, g uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.m, x.g
}

// Watch returns when something happened to either since the state numbered seq.
func (x *guested) Watch(ctx context.Context, seq uint64) (Status, error) {
	m, g := x.seen()
	if seq != m+g {
		m, g = 0, 0 // another state than the last one: the present one is news
	}
	st, err := x.next(ctx, m, g)
	if err != nil {
		return Status{}, err
	}
	now := x.guest.Status()
	x.mu.Lock()
	x.m, x.g = st.Seq, now.Seq
	x.mu.Unlock()
	return merge(st, now), nil
}

// next waits for either; the other wait is ended before it returns.
func (x *guested) next(ctx context.Context, m, g uint64) (Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		if _, err := x.guest.Watch(ctx, g); err == nil {
			cancel()
		}
	}()
	st, err := x.Mapping.Watch(ctx, m)
	called := ctx.Err() != nil
	cancel()
	<-told
	if err != nil && called && !errors.Is(err, ErrGone) {
		return x.present()
	}
	return st, err
}

// present is the mapping's state after the guest's news.
func (x *guested) present() (Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	return x.Mapping.Status(ctx)
}

// Grow lets the guest go on that waited for it.
func (x *guested) Grow(ctx context.Context, segs []Segment) (Status, error) {
	st, err := x.Mapping.Grow(ctx, segs)
	if err != nil {
		return st, err
	}
	return merge(st, x.guest.Grow(st.AllocatedBytes)), nil
}
