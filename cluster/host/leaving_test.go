package host

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
)

// mirrorWith is the state of a cluster of one host, h1, with a wish for it or none.
func mirrorWith(t *testing.T, want string, at int64) *fsm.State {
	t.Helper()
	f := fsm.New()
	cmds := []fsm.Command{&fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: 1, Host: fsm.Host{Name: "h1"}, Time: 1}}
	if want != "" {
		cmds = append(cmds, &fsm.HostWish{Host: "h1", Want: want, By: "ann", Time: at})
	}
	for i, cmd := range cmds {
		b, err := fsm.Encode(cmd, "")
		if err != nil {
			t.Fatal(err)
		}
		if out := f.Apply(uint64(i+1), b).(fsm.Outcome); out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	return f.View()
}

// uses is a host whose volume is attached by whoever was let in.
type usesOf struct{ list []string }

func (u *usesOf) look(context.Context) ([]string, error) { return u.list, nil }

// From the moment that the host knows of the wish nothing is let in, and what it says after that leaves nothing out.
func TestLeaving_saysWhatItUses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &usesOf{}
		l := &leaving{look: u.look}
		defer l.all.Wait()
		idle, told := mirrorWith(t, "", 0), manager.PingRequest{Want: fsm.WishMaintenance, Since: 7, Index: 9}
		if use := l.heed(idle, "h1", manager.PingRequest{Index: 1}); use != nil {
			t.Errorf("nothing is wanted: %+v", use)
		}
		done, err := l.admit(idle, "h1")
		if err != nil {
			t.Fatal(err)
		}
		if use := l.heed(idle, "h1", told); use == nil || use.Beginning != 1 || use.Since != 7 {
			t.Errorf("with something under way: %+v", use)
		}
		if _, err := l.admit(idle, "h1"); !errors.Is(err, ErrLeaving) {
			t.Errorf("let in after the wish: %v", err)
		}
		u.list = []string{"attached volume web1"} // what was under way
		done()
		if use := l.heed(idle, "h1", told); use != nil {
			t.Errorf("before it has looked: %+v", use)
		}
		synctest.Wait()
		if use := l.heed(idle, "h1", told); use == nil || len(use.Uses) != 1 || use.Since != 7 {
			t.Errorf("%+v", use)
		}
		u.list = nil
		time.Sleep(useEvery)
		l.heed(idle, "h1", told)
		synctest.Wait()
		if use := l.heed(idle, "h1", told); use == nil || len(use.Uses) != 0 || use.Beginning != 0 {
			t.Errorf("%+v", use)
		}
	})
}

// The newer of mirror and ping counts, and what was said for one wish is no answer to the next.
func TestLeaving_whichWish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &leaving{look: (&usesOf{}).look}
		defer l.all.Wait()
		wanted := mirrorWith(t, fsm.WishMaintenance, 7) // index 2
		if _, err := l.admit(wanted, "h1"); !errors.Is(err, ErrLeaving) {
			t.Errorf("the mirror knows before the ping: %v", err)
		}
		l.heed(wanted, "h1", manager.PingRequest{Want: fsm.WishMaintenance, Since: 7, Index: 2})
		synctest.Wait()
		if use := l.heed(wanted, "h1", manager.PingRequest{Want: fsm.WishMaintenance, Since: 7, Index: 2}); use == nil {
			t.Error("no answer")
		}
		if use := l.heed(wanted, "h1", manager.PingRequest{Want: fsm.WishMaintenance, Since: 8, Index: 5}); use != nil {
			t.Errorf("the answer to an older wish: %+v", use)
		}
		if use := l.heed(wanted, "h1", manager.PingRequest{Index: 6}); use != nil {
			t.Errorf("taken back: %+v", use)
		}
		done, err := l.admit(wanted, "h1")
		if err != nil {
			t.Fatalf("taken back by a newer ping: %v", err)
		}
		done()
		l.heed(wanted, "h1", manager.PingRequest{Want: fsm.WishMaintenance, Since: 7, Index: 2}) // of a leader that is behind
		if _, err := l.admit(wanted, "h1"); err != nil {
			t.Errorf("an older ping: %v", err)
		}
	})
}

// A keeper that does not answer is not taken for one that holds nothing.
func TestLeaving_cannotTell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &leaving{look: func(context.Context) ([]string, error) { return nil, errors.New("no answer from the keeper") }}
		defer l.all.Wait()
		told := manager.PingRequest{Want: fsm.WishMaintenance, Since: 7, Index: 9}
		l.heed(nil, "h1", told)
		synctest.Wait()
		if use := l.heed(nil, "h1", told); use == nil || len(use.Uses) != 1 {
			t.Errorf("%+v", use)
		}
	})
}
