package leases

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// HostEvent is a message of one host to another in the sender's lockspace record. It is a hint: it may get lost, and
// anybody who can write to the storage can send it.
type HostEvent struct {
	// From is the sender's host id and FromGeneration its generation.
	From           int    `json:"from"`
	FromGeneration uint64 `json:"from_generation"`
	// Generation of the host it is meant for; 0 for whatever generation it has.
	Generation uint64 `json:"generation"`
	// Event says what it is about, never 0; Data is the rest.
	Event uint64 `json:"event"`
	Data  uint64 `json:"data"`
}

// maxEvents is how many events may wait for their turn.
const maxEvents = 16

// eventOut is an event on its way out.
type eventOut struct {
	host                    int
	generation, event, data uint64
}

// bitOut is the bit of one host in our record.
type bitOut struct {
	until  time.Duration // it is set until then; 0 = not set
	wanted bool          // it is to be set, or to stay, for 6N from the next turn of the bits on
}

// notices is what our own record says to other hosts. The record has room for one event and does not name the host it is
// for: whoever's bit is set gets it. So the record carries either one event with the bit of its one host, or bits alone,
// each for 6N from the renewal that first wrote it.
type notices struct {
	bits    []bitOut   // per host
	used    bool       // some bit is set or wanted
	events  []eventOut // the first is in the record while showing
	showing bool
	until   time.Duration // of the event shown
	last    bool          // the last turn was that of an event
}

// keepNotice is how long a bit stays.
func (p Profile) keepNotice() time.Duration { return 6 * p.IOTimeout }

// SendEvent puts an event for a host into our record at the next renewal, for 6N, so that the host sees it about three
// times (and delivers it once). Events are sent one after the other. With generation 0 it is for whoever has the host id.
//
// It returns as soon as the event is in line. ErrBusy means that too many are; ErrChanged that this generation of the
// host is over.
func (ls *Lockspace) SendEvent(_ context.Context, hostID int, generation, event, data uint64) error {
	if err := ls.Check(0); err != nil {
		return err
	}
	if hostID < 1 || hostID > ls.geo.MaxHosts() || hostID == ls.cfg.HostID {
		return fmt.Errorf("%w: event for host %d", ErrHostIDRange, hostID)
	}
	if event == 0 {
		return fmt.Errorf("event 0 for host %d: %w: 0 means no event", hostID, ErrRequest)
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if now := ls.hosts[hostID-1].generation; generation != 0 && now > generation {
		return fmt.Errorf("event for host %d generation %d: %w: it is at generation %d", hostID, generation, ErrChanged, now)
	}
	e := eventOut{hostID, generation, event, data}
	for _, have := range ls.out.events {
		if have == e {
			return nil
		}
	}
	if len(ls.out.events) >= maxEvents {
		return fmt.Errorf("event for host %d: %w: %d are waiting", hostID, ErrBusy, maxEvents)
	}
	ls.out.events = append(ls.out.events, e)
	return nil
}

// askToLook sets a host's bit from the next renewal on.
func (ls *Lockspace) askToLook(host int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	n := &ls.out
	if n.bits == nil {
		n.bits = make([]bitOut, ls.geo.MaxHosts())
	}
	n.bits[host-1].wanted, n.used = true, true
}

// announce fills event and bitmap of a renewal of ours.
func (ls *Lockspace) announce(l *Leader, bitmap *Bitmap, now time.Duration) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.WriteID, l.WriteGeneration, l.WriteTimestamp = 0, 0, 0
	n := &ls.out
	if !n.used && len(n.events) == 0 {
		return
	}
	n.turn(now, ls.cfg.Profile.keepNotice())
	if n.showing {
		e := &n.events[0]
		l.WriteID, l.WriteGeneration, l.WriteTimestamp = e.generation, e.event, e.data
		bitmap.Set(e.host)
		return
	}
	for i := range n.bits {
		if n.bits[i].until > 0 {
			bitmap.Set(i + 1)
		}
	}
}

// turn drops what was kept long enough and decides whether the event or the bits are next.
func (n *notices) turn(now, keep time.Duration) {
	if n.showing && now >= n.until {
		n.events = n.events[:copy(n.events, n.events[1:])]
		n.showing, n.last = false, true
	}
	shown, waiting := n.expire(now)
	if n.showing {
		return
	}
	if shown == 0 && len(n.events) > 0 && (waiting == 0 || !n.last) {
		n.showing, n.until = true, now+keep
		return
	}
	if shown > 0 && len(n.events) > 0 {
		return // no more bits in this turn: the event would never have its own
	}
	n.last = false
	for i := range n.bits {
		if n.bits[i].wanted {
			n.bits[i] = bitOut{until: now + keep}
		}
	}
}

// expire drops the bits that were kept long enough and counts the others, those set and those wanted.
func (n *notices) expire(now time.Duration) (shown, waiting int) {
	for i := range n.bits {
		o := &n.bits[i]
		if o.until > 0 && now >= o.until {
			o.until = 0
		}
		if o.until > 0 {
			shown++
		}
		if o.wanted {
			waiting++
		}
	}
	n.used = shown+waiting > 0
	return shown, waiting
}

// news is what a look found in another host's record for us.
type news struct {
	from  int
	alert bool
	event HostEvent // Event 0: none
}

// heard is what is remembered of a host's messages to us between looks.
type heard struct {
	marked     bool // our bit was set
	generation uint64
	event      [3]uint64
	alerted    time.Duration
}

// listen looks for our bit in the record b of host from, which has changed. A bit that stays set speaks once for each
// event, and again after 6N.
func (h *heard) listen(b []byte, us, from int, generation uint64, now, again time.Duration) (n news, ok bool) {
	if !(*Bitmap)(b[bitmapOffset : bitmapOffset+bitmapSize]).Has(us) {
		h.marked = false
		return n, false
	}
	le := binary.LittleEndian
	event := [3]uint64{le.Uint64(b[176:]), le.Uint64(b[184:]), le.Uint64(b[192:])}
	fresh := !h.marked || h.generation != generation
	n.from, n.alert = from, fresh || now-h.alerted >= again
	if event[1] != 0 && (fresh || event != h.event) {
		n.event = HostEvent{From: from, FromGeneration: generation, Generation: event[0], Event: event[1], Data: event[2]}
	}
	if n.alert {
		h.alerted = now
	}
	h.marked, h.generation, h.event = true, generation, event
	return n, n.alert || n.event.Event != 0
}

// deliver hands over what the last look found. An event for another generation of ours is not for us.
func (ls *Lockspace) deliver() {
	for _, n := range ls.news {
		if n.alert && ls.cfg.OnAlert != nil {
			ls.cfg.OnAlert(n.from)
		}
		forUs := n.event.Generation == 0 || n.event.Generation == ls.generation
		if n.event.Event != 0 && forUs && ls.cfg.OnEvent != nil {
			ls.cfg.OnEvent(n.event)
		}
	}
	ls.news = ls.news[:0]
}
