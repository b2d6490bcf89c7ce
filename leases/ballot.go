package leases

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// outcome is how a ballot, or a look at the leader, ended.
type outcome int

const (
	goOn    outcome = iota
	won             // the lease is ours
	aborted         // a higher ballot is under way: try again with a higher one
	restart         // the leader moved: start over from step 1
)

const (
	firstBackoff = 2 * time.Millisecond
	maxBackoff   = 250 * time.Millisecond
)

// firstBallot is our lowest ballot number above all others: ours modulo maxHosts.
func firstBallot(maxMbal, maxHosts uint64, host int) uint64 {
	if maxMbal == 0 {
		return uint64(host)
	}
	return maxMbal - maxMbal%maxHosts + maxHosts + uint64(host)
}

// ballots is steps 3 to 6: ballots for version found.Lver+1 until one is decided. False without an error: start over.
func (a *attempt) ballots(ctx context.Context) (bool, error) {
	next := a.found.Lver + 1
	mbal := firstBallot(a.maxMbal, a.found.MaxHosts, a.ls.cfg.HostID)
	check := a.looked
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		out, err := goOn, error(nil)
		if check {
			out, err = a.checkLeader(ctx, next)
		}
		if err == nil && out == goOn {
			out, err = a.ballot(ctx, next, mbal)
		}
		if err != nil || out != aborted {
			return out == won, err
		}
		if err := pause(ctx, a.ls.jitter(backoff)); err != nil {
			return false, fmt.Errorf("resource %s: higher ballots kept coming: %w", a.spec.Name, err)
		}
		mbal += a.found.MaxHosts
		check = true
	}
}

// jitter draws a time between d/2 and 3d/2.
func (ls *Lockspace) jitter(d time.Duration) time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.cfg.Rand != nil {
		return d/2 + time.Duration(ls.cfg.Rand.Int64N(int64(d)))
	}
	return d/2 + rand.N(d)
}

// checkLeader is step 4: whether somebody decided this version already.
func (a *attempt) checkLeader(ctx context.Context, next uint64) (outcome, error) {
	now, err := a.readLeader(ctx)
	if err != nil {
		return goOn, err
	}
	if now == a.found {
		return goOn, nil
	}
	if out, err := a.decided(&now, next); out != goOn || err != nil {
		return out, err
	}
	return restart, nil
}

// decided says what a leader that is not the one of step 1 means for our version: goOn when it says nothing about it.
func (a *attempt) decided(now *Leader, next uint64) (outcome, error) {
	switch {
	case now.Lver < next:
		return goOn, nil
	case now.Lver > next:
		return restart, nil
	case now.OwnerID == uint64(a.ls.cfg.HostID) && now.OwnerGeneration == a.ls.generation && now.Timestamp != 0:
		a.leader = *now // another host finished our ballot for us
		return won, nil
	}
	a.accepted = false
	return goOn, a.held(now)
}

// ballot is step 5 and 6 with one ballot number.
func (a *attempt) ballot(ctx context.Context, next, mbal uint64) (outcome, error) {
	a.tried = next
	value := DBlock{Mbal: mbal, Lver: next}
	buf, err := a.writeBlockAndRead(ctx, value, a.sectors)
	if err != nil {
		return goOn, err
	}
	s, err := a.survey(ctx, buf, next, mbal)
	if err != nil || s.out != goOn {
		return s.out, err
	}
	if s.leader != a.found {
		return restart, nil
	}
	a.sharers = s.sharers
	value.Inp, value.Inp2, value.Inp3 = uint64(a.ls.cfg.HostID), a.ls.generation, stamp(a.ls.now())
	if s.best.Bal != 0 && !a.ls.cfg.Bugs.IgnoreValue {
		value.Inp, value.Inp2, value.Inp3 = s.best.Inp, s.best.Inp2, s.best.Inp3
	}
	value.Bal = mbal
	a.accepted = true
	if buf, err = a.writeBlockAndRead(ctx, value, a.sectors); err != nil {
		return goOn, err
	}
	s, err = a.survey(ctx, buf, next, mbal)
	if (err != nil || s.out != goOn) && !a.ls.cfg.Bugs.SkipPhase2Read {
		return s.out, err
	}
	return a.commit(ctx, next, &value)
}

// survey is what the blocks of all hosts say about our ballot.
type survey struct {
	out     outcome
	leader  Leader
	best    DBlock // the accepted value with the highest ballot, Bal 0 if none
	sharers []sharer
}

// survey judges the area that was read after our block was written, and gives buf back. The leader came with the same
// read, so it is judged too.
func (a *attempt) survey(ctx context.Context, buf []byte, next, mbal uint64) (survey, error) {
	var s survey
	buf, l, err := a.wholeArea(ctx, buf)
	if err != nil {
		return s, err
	}
	defer a.ls.putBuffer(buf)
	s.leader = l
	if s.out, err = a.decided(&l, next); err != nil || s.out != goOn {
		return s, err
	}
	for h := 1; h <= int(l.NumHosts); h++ {
		b := buf[a.geo.sector(h+1):a.geo.sector(h+2)]
		if idleBlock(b, next) {
			continue
		}
		var d DBlock
		if err := d.Decode(b); err != nil {
			return s, err
		}
		s.count(h, &d, next, mbal)
	}
	return s, nil
}

// count takes one host's block into the survey.
func (s *survey) count(h int, d *DBlock, next, mbal uint64) {
	if d.Shared() {
		s.sharers = append(s.sharers, sharer{h, d.ModeGeneration})
	}
	switch {
	case !d.Valid() || d.Lver < next:
	case d.Lver > next || d.Mbal > mbal:
		s.out = aborted
	case d.Inp != 0 && d.Bal > s.best.Bal:
		s.best = *d
	}
}

// commit is step 6: whoever completes phase 2 writes the leader, whoever the value names.
func (a *attempt) commit(ctx context.Context, next uint64, v *DBlock) (outcome, error) {
	l := a.found
	l.Lver, l.OwnerID, l.OwnerGeneration, l.Timestamp = next, v.Inp, v.Inp2, v.Inp3
	l.WriteID, l.WriteGeneration, l.WriteTimestamp = uint64(a.ls.cfg.HostID), a.ls.generation, stamp(a.ls.now())
	ours := v.Inp == uint64(a.ls.cfg.HostID) && v.Inp2 == a.ls.generation
	if v.Inp == uint64(a.ls.cfg.HostID) {
		l.Flags = a.holdFlag(l.Flags)
	}
	if err := a.writeLeader(ctx, &l); err != nil {
		return goOn, err
	}
	if !ours {
		a.accepted = false
		return goOn, a.held(&l)
	}
	a.leader = l
	return won, nil
}
