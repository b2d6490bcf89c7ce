package attach

import (
	"testing"
	"testing/synctest"
)

// A volume that somebody else had extended is larger in its mapping too; what did not grow, or is not here, is left alone.
func TestManager_refresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("h1", t.TempDir(), nil)
		defer a.kill()
		if _, err := a.Attach(t.Context(), req(leaf)); err != nil {
			t.Fatal(err)
		}
		allocated := func() int64 {
			synctest.Wait()
			return a.List()[0].Status.AllocatedBytes
		}
		before := allocated()
		w.mu.Lock()
		v := w.vols[leaf]
		v.Segments = append(v.Segments, Segment{"/dev/lun", 100 * gib, 3 * gib})
		w.vols[leaf] = v
		w.mu.Unlock()
		for _, c := range []struct {
			volume string
			size   int64
			want   int64
		}{
			{leaf, before, before}, {twin, before + 3*gib, before}, {base, before + 3*gib, before}, {leaf, before + 3*gib, before + 3*gib},
			{leaf, before, before + 3*gib},
		} {
			if err := a.Refresh(t.Context(), dom, c.volume, c.size); err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			if got := allocated(); got != c.want {
				t.Errorf("%+v: %d bytes, it was %d", c, got, before)
			}
		}
	})
}
