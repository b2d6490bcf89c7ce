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
	return stateAfter(t, &fsm.ConfigSet{Key: fsm.ConfigPowersave, Value: enabled})
}

func stateAfter(t *testing.T, c fsm.Command) *fsm.State {
	t.Helper()
	f := fsm.New()
	b, err := fsm.Encode(c, "")
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(1, b)
	return f.View()
}

// The grace time of the profile compatible depends on what a host uses, so hosts of such a pool always count.
func TestUsage_countsForTheGraceTime(t *testing.T) {
	t.Parallel()
	for profile, want := range map[string]int{"compatible": 1, "fast": 0, "dev": 0} {
		synctest.Test(t, func(t *testing.T) {
			looks := 0
			u := &usage{look: func(context.Context) ([]string, error) { looks++; return nil, nil }}
			u.count(stateAfter(t, &fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Name: "p", Profile: profile}}))
			u.all.Wait()
			if looks != want {
				t.Errorf("%s: %d looks", profile, looks)
			}
		})
	}
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
