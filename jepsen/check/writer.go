package check

import (
	"errors"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// SingleWriter judges by the LUN's record alone that structural bytes had one writer at a time. Each structural write belongs to
// an epoch, the newest of the SPM lease that its host had won when the write came. Then
//
//   - no write of an epoch lands after one of a later epoch, nor after a later epoch was won: its holder has read the disk by then;
//   - between the first and the last write of an epoch no other host wrote (it follows from the above, an epoch has one owner);
//   - nothing lands from a host that never won, or once the lease was given back or freed, before it is won again.
//
// Before the first epoch there is the making of the domain, by one host.
func SingleWriter(r Record) history.Verdict {
	const name = "single writer"
	l, err := LoadLayout(r.Folder)
	if err != nil {
		return failed(name, err)
	}
	c := writerCheck{layout: l, epochs: newEpochs()}
	for _, e := range landed(r.Entries) {
		for _, p := range l.cut(e.Off, e.Len) {
			c.piece(e, p)
		}
	}
	if c.writes == 0 || len(c.epochs.terms) == 0 {
		return failed(name, errors.New("the record has no structural write or no epoch: either nothing was done or this is not the LUN's layout"))
	}
	return c.found.verdict(name, "%d structural writes in %d epochs by %d hosts; %d leader records landed late",
		c.writes, len(c.epochs.terms), len(c.hosts), c.epochs.stale)
}

// writerCheck goes through the landed writes once.
type writerCheck struct {
	layout Layout
	epochs *epochs
	found  findings
	writes int
	hosts  map[string]bool
	newest term // of those that have written
	maker  string
}

func (c *writerCheck) piece(e history.Entry, p piece) {
	switch roleOf(p) {
	case hostRecord:
		if l, ok := decodeLeader(bytesOf(e, p), magicHost); ok {
			c.epochs.hostRecord(e, l)
		}
	case spmLease:
		if p.off%leaseSize != 0 {
			return // a block of the ballot
		}
		if l, ok := decodeLeader(bytesOf(e, p), magicLease, magicCleared); !ok {
			c.found.add("%s: the leader of the SPM lease cannot be read", tell(e, p))
		} else if e.Kind == lost {
			c.epochs.takeBack(l)
		} else if wrong := c.epochs.leaseRecord(e, l); wrong != "" {
			c.found.add("%s: epoch %d %s", tell(e, p), l.version, wrong)
		}
	case structural:
		if e.Kind != lost {
			c.write(e, p)
		}
	}
}

// write judges one structural write.
func (c *writerCheck) write(e history.Entry, p piece) {
	if c.hosts == nil {
		c.hosts = map[string]bool{}
	}
	c.writes++
	c.hosts[e.Host] = true
	own, now := c.epochs.of(e), c.epochs.now()
	switch {
	case now.epoch == 0:
		if c.maker == "" {
			c.maker = e.Host
		}
		if e.Host != c.maker {
			c.found.add("two writers before the first epoch, %s and %s: %s", c.maker, e.Host, tell(e, p))
		}
		return
	case own.epoch == 0:
		c.found.add("%s never held the SPM lease: %s; epoch %d was %s's", e.Host, tell(e, p), now.epoch, now.host)
	case own.epoch < c.newest.epoch:
		c.found.add("a write of epoch %d landed after one of epoch %d by %s: %s", own.epoch, c.newest.epoch, c.newest.host, tell(e, p))
	case own.epoch < now.epoch:
		c.found.add("a write of epoch %d landed after epoch %d was won by %s at %.3fs: %s",
			own.epoch, now.epoch, now.host, now.landed.Seconds(), tell(e, p))
	case c.epochs.free:
		c.found.add("a write of epoch %d landed after its lease was free: %s", own.epoch, tell(e, p))
	}
	if own.epoch > c.newest.epoch {
		c.newest = own
	}
}
