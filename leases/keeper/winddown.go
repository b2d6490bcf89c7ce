package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/watchdog"
)

// Loss tells the agent that a lockspace could not be renewed. Guards have failed by themselves before. The agent stops
// what it does under its leases there, waits until none of its I/O is pending, and says so with Confirm. When it does not
// in time, the keeper ends it.
type Loss struct {
	Lockspace string `json:"lockspace"`
	Reason    string `json:"reason"`
	// KillIn is how long the agent has for that.
	KillIn time.Duration `json:"kill_in"`
}

// loseSpace makes all leases of the lockspace void and sees to it that its users go.
func (s *server) loseSpace(sp *space, err error) {
	s.page.dropLockspace(sp.slot)
	s.mu.Lock()
	sp.lost, sp.used = err, false
	for key, h := range sp.held {
		s.withdrawLocked(sp, key, h)
		if h.tied != nil {
			sp.users = append(sp.users, h.tied)
		} else {
			sp.used = true
		}
	}
	wound := make(chan struct{})
	s.wounds[wound] = struct{}{}
	agent, users := sp.used, len(sp.users)
	s.mu.Unlock()
	sp.dog.Expire()
	s.log.Error("lockspace lost, all its leases are void", "lockspace", sp.spec.Name, "processes", users, "agent", agent, "error", err)
	line := timeline{profile: sp.spec.Profile, failed: min(s.clock.Boot(), lastRenewal(sp.ls)+sp.spec.Profile.Expiry())}
	w := &winding{line: line, clock: s.clock, log: s.log.With("lockspace", sp.spec.Name), news: sp.news, killAgent: s.killAgent,
		left: func() ([]user, bool) { return s.usersLeft(sp) }}
	go func() {
		defer s.healed(wound)
		told := make(chan struct{})
		go func() {
			defer close(told)
			s.tellLost(sp, line)
		}()
		w.run()
		sp.dog.Done()
		<-told
	}()
}

// healed is the end of a lost lockspace, which may have been forgotten before.
func (s *server) healed(wound chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wounds, wound)
	close(wound)
}

// lastRenewal is the boot time at which the last renewal that landed was begun.
func lastRenewal(ls *leases.Lockspace) time.Duration {
	p := ls.Profile()
	return ls.Expiry() + p.Margin() - p.Expiry()
}

// user is what must be gone from a lost lockspace.
type user interface {
	// press asks it to end, or makes it.
	press(force bool)
	// over says that it has ended.
	over() bool
}

// winding stops the users of a lost lockspace: politely, then by force, at the times of the line.
type winding struct {
	line      timeline
	clock     clock.Clock
	log       *slog.Logger
	left      func() (users []user, agent bool)
	killAgent func()
	news      <-chan struct{}
}

// run ends when there are no users, however long that takes: after the line the watchdog has the word.
func (w *winding) run() {
	tick := time.NewTicker(w.line.signalEvery())
	defer tick.Stop()
	for warned := false; ; {
		users, agent := w.left()
		if len(users) == 0 && !agent {
			break
		}
		now := w.clock.Boot()
		w.press(now, users, agent)
		if now >= w.line.over() && !warned {
			warned = true
			w.log.Error("users of a lost lockspace are still there: other hosts take its leases now", "processes", len(users), "agent", agent)
		}
		select {
		case <-tick.C:
		case <-w.news:
		}
	}
	w.log.Warn("nobody uses the lost lockspace any more")
}

// press does what is due.
func (w *winding) press(now time.Duration, users []user, agent bool) {
	for _, u := range users {
		u.press(now >= w.line.killAt())
	}
	if agent && now >= w.line.agentKillAt() {
		w.killAgent()
	}
}

// ownWrite is a write of the keeper's own to a lease that may still land. Nothing but the watchdog can stop it.
type ownWrite struct{}

func (ownWrite) press(bool) {}
func (ownWrite) over() bool { return false }

// press asks the processes to end, or makes them.
func (t *tied) press(force bool) {
	if !t.kill {
		return
	}
	sig := unix.SIGTERM
	if force {
		sig = unix.SIGKILL
	}
	_ = t.signal(sig) // a process that cannot be signalled is left to the watchdog
}

// usersLeft forgets the users that have ended and returns the others.
func (s *server) usersLeft(sp *space) (users []user, agent bool) {
	s.mu.Lock()
	var gone, left []*tied
	for _, t := range sp.users {
		if t.over() {
			gone = append(gone, t)
		} else {
			left, users = append(left, t), append(users, t)
		}
	}
	sp.users, agent = left, sp.used
	for h := range sp.freeing { // their lease was lost before the lockspace
		if h.lost.Load() && h.tied != nil && !h.tied.over() {
			users = append(users, h.tied)
		}
	}
	if sp.ls.WritesPending() {
		users = append(users, ownWrite{})
	}
	s.mu.Unlock()
	for _, t := range gone {
		t.close()
	}
	return users, agent
}

// tellLost sends the notice to the agent, if it holds something there.
func (s *server) tellLost(sp *space, line timeline) {
	s.mu.Lock()
	agent, reason := sp.used, sp.lost.Error()
	s.mu.Unlock()
	if agent {
		s.reply(&response{Lost: &Loss{Lockspace: sp.spec.Name, Reason: reason, KillIn: max(line.agentKillAt()-s.clock.Boot(), 0)}})
	}
}

// confirm takes the agent's word that none of its I/O under the leases of a lost lockspace is pending.
func (s *server) confirm(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.spaces[name]
	switch {
	case sp == nil:
		return fmt.Errorf("lockspace %q: %w", name, ErrNotJoined)
	case sp.lost == nil:
		return fmt.Errorf("%w: lockspace %q is not lost", ErrInvalid, name)
	}
	s.confirmLocked(sp)
	return nil
}

// confirmLocked is confirm for a lockspace that is known; the caller holds mu.
func (s *server) confirmLocked(sp *space) {
	sp.used = false
	select {
	case sp.news <- struct{}{}:
	default:
	}
}

// awaitWound waits until no lost lockspace has users any more, or stop is closed.
func (s *server) awaitWound(stop <-chan struct{}) {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.wounds))
	s.mu.Unlock()
	for _, wound := range all {
		select {
		case <-wound:
		case <-stop:
			return
		}
	}
}

// confirmAll is for an agent that has ended, or has given everything back. With waitRemote it first waits for what was
// sent to servers.
func (s *server) confirmAll(ctx context.Context, waitRemote bool) {
	s.mu.Lock()
	var lost []*space
	for _, sp := range s.spaces {
		if sp.lost != nil && sp.used {
			lost = append(lost, sp)
		}
	}
	s.mu.Unlock()
	for _, sp := range lost {
		if waitRemote && remote(sp.spec.Device) {
			_ = sleep(ctx, sp.spec.Profile.IOTimeout)
		}
		s.mu.Lock()
		s.confirmLocked(sp)
		s.mu.Unlock()
	}
}

// Confirm is the agent's word that none of its I/O under the leases of a lost lockspace is pending: every device call has
// come back, and deadlines of nbd requests have passed. It ends the agent's part in the loss; see Config.OnLost.
func (c *Client) Confirm(ctx context.Context, lockspace string) error {
	_, err := c.call(ctx, &request{Method: methodConfirm, Name: lockspace})
	return err
}

// Protection is what resets this machine when users outlive their leases. It is known after the first join.
func (c *Client) Protection(ctx context.Context) (watchdog.Protection, error) {
	resp, err := c.call(ctx, &request{Method: methodStatus})
	if err != nil || resp.Protection == nil {
		return watchdog.Protection{Kind: watchdog.None, Reason: "not known"}, err
	}
	return *resp.Protection, nil
}
