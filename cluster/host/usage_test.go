package host

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

func saving(t *testing.T, enabled string) *fsm.State {
	t.Helper()
	f := fsm.New()
	b, err := fsm.Encode(&fsm.ConfigSet{Key: fsm.ConfigPowersave, Value: enabled}, "")
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(1, b)
	return f.View()
}

func TestUsage_count(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks, uses, fail := 0, []string{"a volume"}, error(nil)
		u := &usage{look: func(context.Context) ([]string, error) { looks++; return uses, fail }}
		defer u.all.Wait()
		if u.count(saving(t, "false")); looks != 0 {
			t.Fatal("it looks although nobody wants to know")
		}
		on := saving(t, "true")
		if n := u.count(on); n != nil {
			t.Fatalf("%d before the first look", *n)
		}
		synctest.Wait()
		if n := u.count(on); n == nil || *n != 1 || looks != 1 {
			t.Fatalf("%v after %d looks", n, looks)
		}
		uses = nil
		time.Sleep(usageEvery)
		u.count(on)
		synctest.Wait()
		if n := u.count(on); n == nil || *n != 0 || looks != 2 {
			t.Fatalf("%v after %d looks", n, looks)
		}
		fail = errors.New("the keeper does not answer")
		time.Sleep(usageEvery)
		u.count(on)
		synctest.Wait()
		if n := u.count(on); n != nil {
			t.Errorf("%d although the last look failed: it may use anything", *n)
		}
	})
}
