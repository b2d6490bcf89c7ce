package check

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// HostState is what a host's record on the LUN says for a while: LIVE, FAIL (not renewed for longer than its holder may use it), DEAD, FREE.
type HostState struct {
	Host       string
	Generation uint64
	State      string
	From, To   time.Duration
}

// renewal is one record of a host id that landed.
type renewal struct {
	host string
	gen  uint64
	free bool
	at   time.Duration
}

// HostStates goes through the writes to the LUN. A record that is not renewed fails after expiry, and is dead after dead.
func HostStates(r Record, expiry, dead time.Duration) ([]HostState, error) {
	l, err := LoadLayout(r.Folder)
	if err != nil {
		return nil, err
	}
	ids := map[uint64][]renewal{}
	for _, e := range landed(r.Entries) {
		if e.Kind != history.Write {
			continue
		}
		for _, p := range l.cut(e.Off, e.Len) {
			if roleOf(p) != hostRecord {
				continue
			}
			if rec, ok := decodeLeader(bytesOf(e, p), magicHost); ok {
				id := uint64(p.off/sectorSize) + 1
				ids[id] = append(ids[id], renewal{host: e.Host, gen: rec.gen, free: rec.time == 0, at: e.Landed})
			}
		}
	}
	var all []HostState
	for _, list := range ids {
		all = append(all, states(list, expiry, dead, r.Run.Lasted)...)
	}
	slices.SortFunc(all, func(a, b HostState) int { return cmp.Compare(a.From, b.From) })
	return all, nil
}

// states are those of one host id. Who frees a record is not always whose it is.
func states(list []renewal, expiry, dead, end time.Duration) (all []HostState) {
	owner := ""
	add := func(gen uint64, state string, from, to time.Duration) {
		last := len(all) - 1
		switch {
		case from >= to || owner == "":
		case last >= 0 && all[last].State == state && all[last].Generation == gen && all[last].Host == owner && all[last].To == from:
			all[last].To = to
		default:
			all = append(all, HostState{Host: owner, Generation: gen, State: state, From: from, To: to})
		}
	}
	for i, w := range list {
		to := end
		if i+1 < len(list) {
			to = list[i+1].at
		}
		if w.free {
			add(w.gen, "FREE", w.at, to)
			continue
		}
		owner = w.host
		add(w.gen, "LIVE", w.at, min(to, w.at+expiry))
		add(w.gen, "FAIL", w.at+expiry, min(to, w.at+dead))
		add(w.gen, "DEAD", w.at+dead, to)
	}
	return all
}
