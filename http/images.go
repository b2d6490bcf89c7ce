package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

func listImages(b *Backend, r *http.Request) (reply, error) {
	f := VolumeFilter{Domain: r.URL.Query().Get("domain")}
	return mirrored(b, r, b.Volumes, func(ctx context.Context) ([]api.Image, error) { return b.images(ctx, f) }, "domain")
}

// images makes the images out of the volumes.
func (b *Backend) images(ctx context.Context, f VolumeFilter) ([]api.Image, error) {
	vols, err := b.Volumes.Volumes(ctx, f)
	if err != nil {
		return nil, err
	}
	type key struct{ domain, image string }
	by := map[key][]api.Volume{}
	for _, v := range vols {
		k := key{v.Domain, v.Image}
		by[k] = append(by[k], v)
	}
	out := make([]api.Image, 0, len(by))
	for _, layers := range by {
		out = append(out, imageOf(layers))
	}
	slices.SortFunc(out, func(a, b api.Image) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID), strings.Compare(a.Domain, b.Domain))
	})
	return out, nil
}

// imageOf makes an image of its volumes, at least one: from the one that nobody is based on, the leaf, down.
func imageOf(vols []api.Volume) api.Image {
	slices.SortFunc(vols, func(a, b api.Volume) int { return strings.Compare(a.ID, b.ID) })
	left, based := map[string]api.Volume{}, map[string]bool{}
	img := api.Image{ID: vols[0].Image, Domain: vols[0].Domain}
	for _, v := range vols {
		left[v.ID] = v
		based[v.Parent] = true
		img.Allocated += v.Allocated
	}
	tops := slices.DeleteFunc(slices.Clone(vols), func(v api.Volume) bool { return based[v.ID] })
	if len(tops) > 0 {
		img.Volumes, img.Template = layers(tops[0], left)
		img.Name, img.Size = tops[0].Name, tops[0].Size
	}
	for _, v := range vols {
		if _, ok := left[v.ID]; ok {
			img.Volumes = append(img.Volumes, v)
		}
	}
	switch {
	case len(tops) == 0:
		img.Problem = "every volume is based on another one"
	case len(tops) > 1:
		img.Problem = fmt.Sprintf("%d volumes have nothing based on them", len(tops))
	case len(left) > 0:
		img.Problem = fmt.Sprintf("%d volumes are not part of the chain", len(left))
	case tops[0].Legality != "legal":
		img.Problem = "volume " + tops[0].ID + " is " + tops[0].Legality
	}
	if img.Problem == "" && tops[0].Type != "shared" {
		img.Leaf = tops[0].ID
	}
	return img
}

// layers are the volumes of an image from top down, which it takes out of left, and the volume of another image that they are based
// on.
func layers(top api.Volume, left map[string]api.Volume) (chain []api.Volume, template string) {
	for v, ok := top, true; ok; v, ok = left[v.Parent] {
		delete(left, v.ID)
		chain = append(chain, v)
		template = v.Parent
	}
	if slices.ContainsFunc(chain, func(v api.Volume) bool { return v.ID == template }) {
		template = "" // a loop
	}
	return chain, template
}

func getImage(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	return mirrored(b, r, b.Volumes, func(ctx context.Context) (api.Image, error) { return b.findImage(ctx, ref) })
}

// findImage looks an image up by its UUID, or by the name of a volume of it.
func (b *Backend) findImage(ctx context.Context, ref string) (api.Image, error) {
	all, err := b.images(ctx, VolumeFilter{})
	if err != nil {
		return api.Image{}, err
	}
	found := slices.DeleteFunc(all, func(i api.Image) bool {
		return i.ID != strings.ToLower(ref) && !slices.ContainsFunc(i.Volumes, func(v api.Volume) bool { return v.Name == ref })
	})
	switch len(found) {
	case 0:
		return api.Image{}, api.Errorf(api.CodeNotFound, "holdfast image list shows the images", "no image has the id, or a volume of the name, %q", ref)
	case 1:
		return found[0], nil
	}
	return api.Image{}, api.Errorf(api.CodeConflict, "use the image's UUID", "%d images have a volume named %q", len(found), ref)
}

func snapshotImage(b *Backend, r *http.Request) (reply, error) {
	if err := ensureKey(r); err != nil {
		return reply{}, err
	}
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	var req api.ImageSnapshot
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if req.Name != "" {
		if err := checkName("name", req.Name); err != nil {
			return reply{}, err
		}
	}
	if b.Volumes == nil {
		return reply{}, notMember()
	}
	v, err := b.Volumes.SnapshotImage(r.Context(), ref, req, r.Header.Get(api.HeaderIdempotency))
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: v, mark: &Mark{Index: v.Index}, epoch: v.Epoch}, nil
}
