package manager

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// eligible reports whether a host could take the role now, its back-off aside.
func eligible(h *Host) bool { return unfit(h) == "" && h.Role.State == RoleNone }

// unfit says why a host cannot take the role; empty: it can.
func unfit(h *Host) string {
	switch {
	case h.Priority < 0:
		return "never SPM by its priority"
	case h.Maintenance:
		return "in maintenance"
	case h.Leaving:
		return "on its way to maintenance"
	case h.Doomed:
		return "is being switched off"
	case !h.Reachable:
		return "does not answer"
	case !h.KeeperOK:
		return "its lease keeper does not run, or has lost its host id"
	case !h.MasterValid:
		return "cannot read the master domain"
	}
	return ""
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
	slices.SortFunc(list, func(a, b Host) int { return better(in, a, b) })
	return list, retry
}

// better sorts the host first that should rather be SPM: what it reaches comes before everything else, for what the SPM cannot
// reach nobody can change.
func better(in *Inputs, a, b Host) int {
	return cmp.Or(
		cmp.Compare(b.Reach, a.Reach),
		boolCmp(a.Name == in.Desired.Host, b.Name == in.Desired.Host),
		boolCmp(a.Failures == 0, b.Failures == 0),
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(jitter(a.Name, in.Lease.Version), jitter(b.Name, in.Lease.Version)),
		cmp.Compare(a.Name, b.Name),
	)
}

// merits says what speaks for a candidate, in the order of better.
func merits(in *Inputs, h *Host) string {
	var l []string
	if h.Reports {
		l = append(l, fmt.Sprintf("reaches %d of %d active domains", h.Reach, in.Active))
	}
	if h.Name == in.Desired.Host {
		l = append(l, "wanted by the operator")
	}
	if h.Failures > 0 {
		l = append(l, fmt.Sprintf("failed %d times to start", h.Failures))
	}
	return strings.Join(append(l, fmt.Sprintf("priority %d", h.Priority)), ", ")
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
