package manager

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"
	"time"
)

// eligible reports whether a host could take the role now, its back-off aside.
func eligible(h *Host) bool {
	return h.Reachable && !h.Maintenance && h.Priority >= 0 && h.KeeperOK && h.MasterValid && h.Role.State == RoleNone
}

// candidates returns the hosts that may be asked to start, the best first, and the shortest back-off among those
// that only have to wait.
func candidates(in *Inputs) (list []Host, retry time.Duration) {
	for _, h := range in.Hosts {
		switch {
		case !eligible(&h):
		case h.RetryIn > 0:
			if retry == 0 || h.RetryIn < retry {
				retry = h.RetryIn
			}
		default:
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b Host) int {
		return cmp.Or(
			boolCmp(a.Name == in.Desired.Host, b.Name == in.Desired.Host),
			boolCmp(a.Failures == 0, b.Failures == 0),
			cmp.Compare(b.Priority, a.Priority),
			cmp.Compare(jitter(a.Name, in.Lease.Version), jitter(b.Name, in.Lease.Version)),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return list, retry
}

// boolCmp sorts true first.
func boolCmp(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// jitter spreads the role over equal hosts. It depends on the name and the epoch only, so that every leader and
// every replay chooses alike.
func jitter(name string, version uint64) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	h.Write(strconv.AppendUint(nil, version, 10))
	return h.Sum32()
}
