package httpapi

import (
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/http/api"
)

func TestImageOf(t *testing.T) {
	t.Parallel()
	vol := func(id, parent, kind string) api.Volume {
		return api.Volume{ID: id, Image: "i", Domain: "d", Name: "n-" + id, Size: 10, Allocated: 3, Parent: parent, Type: kind, Legality: "legal"}
	}
	base, mid, top := vol("b", "", "internal"), vol("c", "b", "internal"), vol("a", "c", "leaf")
	bad := top
	bad.Legality = "illegal"
	for name, c := range map[string]struct {
		vols     []api.Volume
		order    string
		leaf     string
		template string
		problem  string
	}{
		"one":             {[]api.Volume{vol("x", "", "leaf")}, "x", "x", "", ""},
		"chain":           {[]api.Volume{base, top, mid}, "a c b", "a", "", ""},
		"on a template":   {[]api.Volume{vol("y", "t", "leaf")}, "y", "y", "t", ""},
		"a template":      {[]api.Volume{vol("t", "", "shared")}, "t", "", "", ""},
		"two leaves":      {[]api.Volume{base, vol("c", "b", "leaf"), vol("d", "b", "leaf")}, "c b d", "", "", "2 volumes have nothing"},
		"a loop":          {[]api.Volume{vol("p", "q", "internal"), vol("q", "p", "internal")}, "p q", "", "", "every volume is based"},
		"a loop below":    {[]api.Volume{vol("p", "q", "internal"), vol("q", "p", "internal"), top}, "a p q", "", "c", "2 volumes are not part"},
		"a parent gone":   {[]api.Volume{vol("z", "gone", "leaf")}, "z", "z", "gone", ""},
		"an illegal leaf": {[]api.Volume{base, mid, bad}, "a c b", "", "", "illegal"},
	} {
		img := imageOf(c.vols)
		var order []string
		for _, v := range img.Volumes {
			order = append(order, v.ID)
		}
		if got := strings.Join(order, " "); got != c.order || img.Leaf != c.leaf || img.Template != c.template || img.ID != "i" || img.Domain != "d" {
			t.Errorf("%s: %q, %+v", name, got, img)
		}
		if img.Allocated != int64(3*len(c.vols)) || (c.problem == "") != (img.Problem == "") || !strings.Contains(img.Problem, c.problem) {
			t.Errorf("%s: %+v", name, img)
		}
	}
}
