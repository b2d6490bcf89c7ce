package workload

import (
	"context"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// How often a client does the less usual.
const (
	repeatShare = 0.15 // of creates: with a key that was sent before, mostly through another host
	byIDShare   = 0.6  // of deletes: by id where one is known, else by name
	oldShare    = 0.3  // of deletes and releases: of what is out of use, to make room
)

// volumeSize is one extent at most, so that thousands fit.
const volumeSize = 64 << 20

// create makes a volume, or asks again for one.
func (w *worker) create(ctx context.Context) {
	n := w.names.pick(w.rnd)
	in := history.VolumeInput{Idempotency: uuid.NewString(), Size: volumeSize, Format: api.FormatQCOW2}
	if w.chance(0.3) {
		in.Format = api.FormatRaw
	}
	w.createAs(ctx, w.names, n, w.names.ask(n, in, w.chance(repeatShare), w.rnd))
}

func (w *worker) createAs(ctx context.Context, of *names, n *name, in history.VolumeInput) history.Op {
	a := w.agent()
	var got api.VolumeCreated
	op := w.ask(ctx, history.Op{Kind: history.VolumeCreate, Key: n.text, Host: a.name}, in, func(ctx context.Context) (answer, error) {
		var err error
		got, err = a.api.CreateVolume(ctx, api.VolumeCreate{Name: n.text, Size: in.Size, Format: in.Format, Description: in.Description, InitialSize: in.Initial},
			in.Idempotency)
		return answer{history.VolumeAnswer{VolumeRef: ref(got.Volume), Mirrored: got.Mirrored}, got.Epoch, got.Index}, err
	})
	of.learn(n, op, got.ID)
	return op
}

// delete deletes a volume by id or by name.
func (w *worker) delete(ctx context.Context) {
	for _, of := range []*names{w.names, w.texts, w.thin} {
		if n, id := of.pickOld(); n != nil && w.chance(oldShare) {
			w.deleteAs(ctx, of, n, id)
			return
		}
	}
	n := w.names.pick(w.rnd)
	id := ""
	if w.chance(byIDShare) {
		id = w.names.id(n, w.rnd)
	}
	w.deleteAs(ctx, w.names, n, id)
}

func (w *worker) deleteAs(ctx context.Context, of *names, n *name, id string) history.Op {
	a := w.agent()
	target := id
	if target == "" {
		target = n.text
	}
	gone := id
	op := w.ask(ctx, history.Op{Kind: history.VolumeDelete, Key: n.text, Host: a.name}, history.VolumeInput{ID: id}, func(ctx context.Context) (answer, error) {
		got, err := a.api.DeleteVolume(ctx, target)
		if err == nil {
			gone = got.ID
		}
		return answer{history.VolumeAnswer{VolumeRef: history.VolumeRef{ID: got.ID, Name: got.Name}, Mirrored: got.Mirrored}, got.Epoch, got.Index}, err
	})
	of.learn(n, op, gone)
	return op
}

// list lists all volumes, as the leader or as a mirror has them.
func (w *worker) list(ctx context.Context) {
	a := w.agent()
	read, in := w.reading()
	op := history.Op{Kind: history.VolumeList, Host: a.name, Stale: !read.Consistent}
	w.ask(ctx, op, in, func(ctx context.Context) (answer, error) {
		vs, mark, err := a.api.Volumes(ctx, client.VolumeFilter{}, read)
		l := history.VolumeListed{Volumes: make([]history.VolumeRef, 0, len(vs)), Age: mark.Age}
		for _, v := range vs {
			l.Volumes = append(l.Volumes, ref(v))
		}
		return answer{out: l, index: mark.Index}, err
	})
}

// show reads one volume by name: as often one that comes and goes as one that is there for its description.
func (w *worker) show(ctx context.Context) {
	n := w.names.pick(w.rnd)
	if w.conf.Weights[history.VolumeDescribe] > 0 && w.chance(0.5) {
		if n = w.register(ctx); n == nil {
			return
		}
	}
	a := w.agent()
	read, in := w.reading()
	op := history.Op{Kind: history.VolumeShow, Key: n.text, Host: a.name, Stale: !read.Consistent}
	w.ask(ctx, op, in, func(ctx context.Context) (answer, error) {
		v, mark, err := a.api.Volume(ctx, n.text, read)
		return answer{out: history.VolumeAnswer{VolumeRef: ref(v), Age: mark.Age}, index: mark.Index}, err
	})
}
