package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
)

func listVolumes(b *Backend, r *http.Request) (reply, error) {
	q := r.URL.Query()
	f := VolumeFilter{Domain: q.Get("domain"), Image: q.Get("image"), Name: q.Get("name")}
	return mirrored(b, r, b.Volumes, func(ctx context.Context) ([]api.Volume, error) {
		l, err := b.Volumes.Volumes(ctx, f)
		return noNil(l), err
	}, "domain", "image", "name")
}

func getVolume(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	return mirrored(b, r, b.Volumes, func(ctx context.Context) (api.Volume, error) { return b.Volumes.Volume(ctx, ref) })
}

// ensureKey gives a create without an idempotency key one, so that passing it on can be repeated safely.
func ensureKey(r *http.Request) error {
	key := r.Header.Get(api.HeaderIdempotency)
	if key == "" {
		r.Header.Set(api.HeaderIdempotency, uuid.NewString())
		return nil
	}
	if !saneKey(key) {
		return api.Errorf(api.CodeInvalid, "use a UUID", "Idempotency-Key must be 1 to 128 printable ASCII characters without spaces")
	}
	return nil
}

func saneKey(s string) bool {
	if len(s) > 128 {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

func createVolume(b *Backend, r *http.Request) (reply, error) {
	if err := ensureKey(r); err != nil {
		return reply{}, err
	}
	var req api.VolumeCreate
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkVolumeCreate(&req); err != nil {
		return reply{}, err
	}
	if b.Volumes == nil {
		return reply{}, notMember()
	}
	v, err := b.Volumes.CreateVolume(r.Context(), req, r.Header.Get(api.HeaderIdempotency))
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: v, mark: &Mark{Index: v.Index}, epoch: v.Epoch}, nil
}

func updateVolume(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	var req api.VolumeUpdate
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkVolumeUpdate(req); err != nil {
		return reply{}, err
	}
	if b.Volumes == nil {
		return reply{}, notMember()
	}
	v, err := b.Volumes.UpdateVolume(r.Context(), ref, req)
	if err != nil {
		return reply{}, err
	}
	return reply{body: v, mark: &Mark{Index: v.Index}, epoch: v.Epoch}, nil
}

func deleteVolume(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	if b.Volumes == nil {
		return reply{}, notMember()
	}
	v, err := b.Volumes.DeleteVolume(r.Context(), ref)
	if err != nil {
		return reply{}, err
	}
	return reply{body: v, mark: &Mark{Index: v.Index}, epoch: v.Epoch}, nil
}
