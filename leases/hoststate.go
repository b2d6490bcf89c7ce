package leases

import (
	"encoding/binary"
	"time"
)

// HostState is what a host can say of another one from watching its lockspace record.
type HostState string

// The states, in sanlock's words.
const (
	// HostUnknown: seen too short a time to tell.
	HostUnknown HostState = "UNKNOWN"
	// HostFree: nobody has this host id; its leases can be taken at once.
	HostFree HostState = "FREE"
	// HostLive: its record changed within 8N.
	HostLive HostState = "LIVE"
	// HostFail: its leases expired, but it may still be running.
	HostFail HostState = "FAIL"
	// HostDead: silent for longer than 8N + W. Its leases can be taken.
	HostDead HostState = "DEAD"
)

// HostStatus is one host of a lockspace as this host sees it.
type HostStatus struct {
	HostID     int           `json:"host_id"`
	State      HostState     `json:"state"`
	Name       string        `json:"name,omitempty"`
	Generation uint64        `json:"generation"`
	Timestamp  uint64        `json:"timestamp"`
	IOTimeout  time.Duration `json:"io_timeout"`
	// Silent is the time since its record was last seen to change.
	Silent time.Duration `json:"silent"`
	// Looked is the time since its record was last read.
	Looked time.Duration `json:"looked"`
	// DeadIn is the time until it counts as dead if it stays silent; 0 when free, dead, or ourselves.
	DeadIn time.Duration `json:"dead_in"`
	// Stood says that a free record was found the same for 8N + W: nobody renews it, in whatever generation it was freed.
	Stood bool `json:"stood,omitempty"`
}

// observed is what is remembered of one host between looks. It holds no pointers: a look must not allocate.
type observed struct {
	owner, generation, timestamp uint64
	ioTimeout                    uint16
	name                         Name
	seen, everLive               bool
	firstCheck, lastCheck        time.Duration
	lastLive                     time.Duration
	heard                        heard
}

// look takes in the host's sector b as read at boot time now. Like sanlock it checks magic and lockspace name only:
// whatever changes is a sign of life. It says whether this is a record that changed, so that it may have news.
func (o *observed) look(b []byte, space *Name, now time.Duration) bool {
	le := binary.LittleEndian
	if !o.seen {
		o.seen, o.firstCheck = true, now
	}
	o.lastCheck = now
	owner, gen, ts := le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[152:])
	sane := le.Uint32(b) == magicDelta && Name(b[56:104]).equal(*space)
	if !sane {
		owner, gen = o.owner, o.generation
	}
	if owner == o.owner && gen == o.generation && ts == o.timestamp {
		return false
	}
	o.owner, o.generation, o.timestamp = owner, gen, ts
	o.lastLive, o.everLive = now, true
	if sane {
		o.ioTimeout, o.name = le.Uint16(b[174:]), Name(b[104:152])
	}
	return sane
}

// since is the moment its silence is counted from.
func (o *observed) since() time.Duration {
	if o.everLive {
		return o.lastLive
	}
	return o.firstCheck
}

// times are the host's own expiry and death times; n is ours, for records that say nothing.
func (o *observed) times(p Profile) (expiry, dead time.Duration) {
	q := p
	if o.ioTimeout != 0 {
		q.IOTimeout = time.Duration(o.ioTimeout&0xff) * time.Second
	}
	return q.Expiry(), surely(q.HostDead())
}

// state judges the host at boot time now. Death needs a look after the expiry as well: a host that we did not watch
// is not dead for that.
func (o *observed) state(p Profile, now time.Duration) HostState {
	expiry, dead := o.times(p)
	last := o.since()
	switch {
	case !o.seen:
		return HostUnknown
	case o.timestamp == 0:
		return HostFree
	case now-last <= expiry && o.firstCheck == o.lastLive:
		return HostUnknown
	case now-last <= expiry:
		return HostLive
	case now-last > dead && o.lastCheck-last > expiry:
		return HostDead
	}
	return HostFail
}

// status is the public form of o for host id.
func (o *observed) status(id int, p Profile, now time.Duration) HostStatus {
	_, dead := o.times(p)
	s := HostStatus{HostID: id, State: o.state(p, now), Name: o.name.String(), Generation: o.generation, Timestamp: o.timestamp,
		IOTimeout: time.Duration(o.ioTimeout) * time.Second}
	if o.seen {
		s.Silent, s.Looked = now-o.since(), now-o.lastCheck
	}
	switch s.State {
	case HostFree:
		s.Stood = o.still(p, now)
	case HostDead:
	default:
		s.DeadIn = max(0, dead-s.Silent)
	}
	return s
}

// still says whether our looks found the record the same for 8N + W, with the larger of the host's N and ours.
func (o *observed) still(p Profile, now time.Duration) bool {
	p.IOTimeout = max(p.IOTimeout, time.Duration(o.ioTimeout&0xff)*time.Second)
	return o.seen && o.lastCheck-o.since() > p.Expiry() && now-o.since() > surely(p.HostDead())
}
