//go:build jepsen

package lvm2

import (
	"errors"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/plant"
)

func TestRemoveLV_planted(t *testing.T) {
	defer plant.Set(plant.DoubleFree)()
	ctx := testContext(t)
	g := smallGroup(t, ctx, newMem())
	change := func(remove, create string) *LV {
		t.Helper()
		tx := g.Begin()
		if remove != "" {
			if err := tx.RemoveLV(remove); err != nil {
				t.Fatal(err)
			}
		}
		var lv *LV
		if create != "" {
			var err error
			if lv, err = tx.CreateLV(create, 4*smallExtent, LVOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Commit(ctx, tx, nil, "test"); err != nil {
			t.Fatal(err)
		}
		return lv
	}
	change("", "a")
	change("", "b")
	change("a", "")
	c := change("", "c") // where a was
	change("b", "")      // frees a's extents again
	d := change("", "d")
	if c.Segments[0].Areas[0] != d.Segments[0].Areas[0] {
		t.Errorf("c lies at %v, d at %v", c.Segments[0].Areas, d.Segments[0].Areas)
	}
}

func TestCommit_planted(t *testing.T) {
	ctx := testContext(t)
	dev := newMem()
	smallGroup(t, ctx, dev)
	commit := func(g *Group, lv string) error {
		tx := g.Begin()
		if _, err := tx.CreateLV(lv, smallExtent, LVOptions{}); err != nil {
			t.Fatal(err)
		}
		return g.Commit(ctx, tx, nil, "test")
	}
	one, two := reopened(t, dev), reopened(t, dev)
	if err := commit(one, "one"); err != nil {
		t.Fatal(err)
	}
	if err := commit(two, "two"); !errors.Is(err, ErrChanged) {
		t.Fatalf("without the mistake: %v", err)
	}
	defer plant.Set(plant.NoEpochCheck)()
	if err := commit(two, "two"); err != nil {
		t.Errorf("somebody looked: %v", err)
	}
}

func reopened(t *testing.T, dev blockdev.Device) *Group {
	t.Helper()
	g, err := Open(testContext(t), []blockdev.Device{dev})
	if err != nil {
		t.Fatal(err)
	}
	return g
}
