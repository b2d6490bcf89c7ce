//go:build jepsen

package spm

import (
	"testing"
	"testing/synctest"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// The lease is given up although a write may still land.
func TestRole_planted_lateWrite(t *testing.T) {
	defer plant.Set(plant.LateWrite)()
	synctest.Test(t, func(t *testing.T) {
		l, m := newLUN(), &fakeMirror{}
		a, _ := newRole(t, l, m, 1)
		b, _ := newRole(t, l, m, 2)
		if _, err := a.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		l.pending = 1
		if _, err := a.Stop(t.Context(), StopRequest{}); err != nil {
			t.Errorf("it waited: %v", err)
		}
		if _, err := b.Start(t.Context(), StartRequest{ExpectVersion: 4}); err != nil {
			t.Errorf("no second writer: %v", err)
		}
		l.pending = 0
	})
}

// A create is acknowledged while the disk has not even been asked.
func TestRole_planted_mirrorFirst(t *testing.T) {
	defer plant.Set(plant.MirrorFirst)()
	synctest.Test(t, func(t *testing.T) {
		l, m := newLUN(), &fakeMirror{}
		r, _ := newRole(t, l, m, 1)
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		l.hang = make(chan struct{})
		rep, err := r.CreateVolume(t.Context(), create("a"))
		if err != nil || !rep.Mirrored || len(l.vols) != 0 {
			t.Errorf("%+v, %v; on disk: %v", rep, err, l.vols)
		}
		close(l.hang)
		synctest.Wait()
		if len(l.vols) != 1 || !m.same(l) {
			t.Error("in a calm run the disk does not follow")
		}
	})
}
