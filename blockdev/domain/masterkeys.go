package domain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Keys of the pool, which only count on its master.
const (
	keyMasterVersion   = "MASTER_VERSION"
	keyPoolDescription = "POOL_DESCRIPTION"
	keyPoolDomains     = "POOL_DOMAINS"
	keyPoolSPMID       = "POOL_SPM_ID"
	keyPoolSPMLver     = "POOL_SPM_LVER"

	// keyNextMaster is ours: it says on a master that another domain may have become the master in its place. VDSM keeps keys
	// that it does not know.
	keyNextMaster = "HOLDFAST_NEXT_MASTER"
)

// Statuses of a domain in its pool.
const (
	PoolActive   = "Active"
	PoolAttached = "Attached"
)

// MemberStatus is a domain of a pool as the master's keys list it.
type MemberStatus struct{ ID, Status string }

// NextMaster is the domain that is to take over from a master, and the version that it takes over with.
type NextMaster struct {
	Domain  string
	Version int
}

// MasterState is what a domain's keys say about the pool's master. Which master is in force is decided by these alone: of the
// domains that say Master, whole, the one with the highest version.
type MasterState struct {
	Master   bool
	Version  int
	Pools    []string
	PoolName string
	Members  []MemberStatus
	Next     NextMaster // zero: nobody is to take over
	Damage   string     // why the pool's keys are not whole; empty: they are
}

// InForce tells whether the domain says that it is the pool's master, in keys that are whole.
func (m MasterState) InForce(pool string) bool {
	return m.Master && m.Damage == "" && slices.Contains(m.Pools, pool)
}

// masterState reads the keys.
func (k Keys) masterState() MasterState {
	id, _ := parseIdentity(k)
	m := MasterState{Master: id.role == roleMaster, Pools: id.pools, PoolName: k[keyPoolDescription], Members: parseMembers(k[keyPoolDomains])}
	version, err := k.number(keyMasterVersion)
	switch {
	case err != nil && m.Master:
		m.Damage = err.Error()
	case err == nil && (version < 0 || version > maxMasterVersion):
		m.Damage = fmt.Sprintf("key %s is %d", keyMasterVersion, version)
	case err == nil:
		m.Version = int(version)
	}
	if m.Damage == "" && m.Master && !slices.ContainsFunc(m.Members, func(d MemberStatus) bool { return d.ID == k[keySDUUID] }) {
		m.Damage = fmt.Sprintf("key %s does not list the domain itself", keyPoolDomains)
	}
	next, err := parseNext(k[keyNextMaster])
	if err != nil && m.Damage == "" {
		m.Damage = err.Error()
	}
	m.Next = next
	return m
}

// maxMasterVersion bounds what a foreign key may say; a version grows by one for each change of the master.
const maxMasterVersion = 1 << 30

// parseMembers reads POOL_DOMAINS. What is no pair is left out, as VDSM has it; quotes around both parts go.
func parseMembers(list string) []MemberStatus {
	var out []MemberStatus
	for item := range strings.SplitSeq(list, ",") {
		id, status, ok := strings.Cut(item, ":")
		id, status = strings.Trim(strings.TrimSpace(id), "'"), strings.Trim(strings.TrimSpace(status), "'")
		if !ok || id == "" {
			continue
		}
		if status = capitalise(status); status == "Inactive" {
			status = PoolAttached // the word of old versions
		}
		out = append(out, MemberStatus{id, status})
	}
	return out
}

func printMembers(list []MemberStatus) string {
	items := make([]string, len(list))
	for i, d := range list {
		items[i] = d.ID + ":" + d.Status
	}
	return strings.Join(items, ",")
}

// parseNext reads our mark.
func parseNext(text string) (NextMaster, error) {
	if text == "" {
		return NextMaster{}, nil
	}
	id, version, _ := strings.Cut(text, ":")
	n, err := strconv.Atoi(version)
	if err != nil || n < 1 || n > maxMasterVersion || !validUUID(id) {
		return NextMaster{}, fmt.Errorf("key %s is %.60q: %w", keyNextMaster, text, ErrBadKeys)
	}
	return NextMaster{id, n}, nil
}

// lockKeys are the parameters of the lock, which a master hands to the next one. Nothing obeys them, and VDSM reads them all.
var lockKeys = map[string]string{"LOCKPOLICY": "ON", "LOCKRENEWALINTERVALSEC": "5", "LEASETIMESEC": "60", "IOOPTIMEOUTSEC": "10", "LEASERETRIES": "3"}

// MasterSpec is what a domain becomes master with.
type MasterSpec struct {
	Pool, PoolName string
	Version        int
	Members        []MemberStatus // of the pool; the domain itself is listed in any case, as active
	From           Keys           // of the last master; nil: it cannot be read
}

// become makes the keys those of a master.
func (k Keys) become(s MasterSpec) {
	for key, value := range lockKeys {
		if old, ok := s.From[key]; ok {
			value = old
		}
		k[key] = value
	}
	if !slices.Contains(parsePools(k[keyPoolUUID]), s.Pool) {
		k[keyPoolUUID] = s.Pool
	}
	k[keyRole], k[keyMasterVersion] = roleMaster, strconv.Itoa(s.Version)
	k[keyPoolDescription] = s.PoolName
	k[keyPoolSPMID], k[keyPoolSPMLver] = "-1", "-1"
	k[keyPoolDomains] = s.From[keyPoolDomains]
	k.listMembers(s.Members)
	delete(k, keyNextMaster)
}

// maxTag is how long a tag may be for LVM, by its manual; about 21 domains fit.
const maxTag = 1024

// listMembers lists the domains of the pool: those listed already in their order, then the others. The domain itself is active.
// What does not fit into one tag is left out, from the end: nobody decides anything by the list, neither we nor a VDSM of these days.
func (k Keys) listMembers(want []MemberStatus) {
	self := k[keySDUUID]
	rest := slices.Clone(want)
	if i := slices.IndexFunc(rest, func(d MemberStatus) bool { return d.ID == self }); i >= 0 {
		rest[i].Status = PoolActive
	} else {
		rest = slices.Insert(rest, 0, MemberStatus{self, PoolActive})
	}
	var out []MemberStatus
	for _, old := range parseMembers(k[keyPoolDomains]) {
		if i := slices.IndexFunc(rest, func(d MemberStatus) bool { return d.ID == old.ID }); i >= 0 {
			out, rest = append(out, rest[i]), slices.Delete(rest, i, i+1)
		}
	}
	out = append(out, rest...)
	k[keyPoolDomains] = printMembers(out)
	for len(tagKey+encodeTag(keyPoolDomains+"="+k[keyPoolDomains])) > maxTag && len(out) > 1 {
		last := len(out) - 1
		if out[last].ID == self {
			last--
		}
		out = slices.Delete(out, last, last+1)
		k[keyPoolDomains] = printMembers(out)
	}
}

// stepDown makes the keys those of a domain that is master no more. The pool's other keys stay, as VDSM leaves them: without the
// role they mean nothing.
func (k Keys) stepDown() { k[keyRole], k[keyMasterVersion] = roleRegular, "0" }

// setNext notes who is to take over; zero takes the note away.
func (k Keys) setNext(n NextMaster) {
	if n == (NextMaster{}) {
		delete(k, keyNextMaster)
		return
	}
	k[keyNextMaster] = fmt.Sprintf("%s:%d", n.Domain, n.Version)
}
