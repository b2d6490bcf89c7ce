package host

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
)

// usage counts what this host uses of the pool, for the grace time and the saving of power. It is looked at seldom, and only while something
// depends on it. What must not be missed is looked at again on the way to maintenance; see leaving.
type usage struct {
	look func(ctx context.Context) ([]string, error)
	all  sync.WaitGroup // looks

	mu      sync.Mutex // guards what follows
	looking bool
	busy    *int // nil: the last look failed, or there was none
	at      time.Time
}

// Times of looks.
const (
	usageEvery = 5 * time.Second
	usageOld   = 30 * time.Second
)

// count is how many things were used at the last look; nil: not known.
func (u *usage) count(view *fsm.State) *int {
	if view == nil || !manager.CountsUses(view) {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	age := time.Since(u.at)
	if !u.looking && age >= usageEvery {
		u.looking = true
		u.all.Go(u.lookNow)
	}
	if u.busy == nil || age > usageOld {
		return nil
	}
	n := *u.busy
	return &n
}

func (u *usage) lookNow() {
	ctx, cancel := context.WithTimeout(context.Background(), useTimeout)
	defer cancel()
	uses, err := u.look(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.looking, u.at, u.busy = false, time.Now(), nil
	if err == nil {
		n := len(uses)
		u.busy = &n
	}
}
