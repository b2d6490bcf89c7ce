package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/leases"
)

// unixTime is a replicated time (unix nanoseconds); 0 is no time at all.
func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// apiHost is a member as the API shows it.
func apiHost(h fsm.Host, pool fsm.Pool, leader string, alive bool) api.Host {
	return api.Host{
		Name: h.Name, HostID: h.HostID, State: h.CurrentState(), Reason: h.Reason, Since: unixTime(h.Since), Address: h.Address,
		Deadline: apiDeadline(h.Deadline), Wish: apiWish(h.Wish), Witnesses: apiWitnesses(h.Witnesses),
		Gossip: h.Gossip, HTTP: h.HTTP, Generation: h.Generation, Priority: h.Priority, Alive: alive,
		SPM: pool.SPM.Host == h.Name && pool.SPM.State == fsm.SPMServing, Leader: leader == h.Name,
		Joined: unixTime(h.Joined), Watchdog: h.Watchdog, WatchdogTime: h.WatchdogTime, Unprotected: !h.Protected(),
	}
}

// apiDomain is a domain as the API shows it.
func apiDomain(d fsm.Domain, volumes int) api.Domain {
	return api.Domain{
		ID: d.ID, Name: d.Name, Type: d.Type, Role: d.Role, Status: d.CurrentStatus(), Version: d.Version, Size: d.Size,
		Free: d.Free, ExtentSize: d.ExtentSize, SectorSize: d.SectorSize, LUNs: d.LUNs, Volumes: volumes, Epoch: d.Epoch,
		Waiting: d.Waiting, Needed: d.Needed, Reason: d.Reason, Since: unixTime(d.Since), Deadline: unixTime(d.Deadline), FailingHosts: d.Failing,
	}
}

// apiVolume is a volume as the API shows it.
func apiVolume(v fsm.Volume) api.Volume {
	return api.Volume{
		ID: v.ID, Image: v.Image, Domain: v.Domain, Name: v.Name, Description: v.Description, Size: v.Size,
		Allocated: v.Allocated, Format: v.Format, Allocation: v.Allocation, Parent: v.Parent, Legality: v.Legality,
		Type: v.VolType, Slot: v.Slot, Epoch: v.Epoch,
		Created: unixTime(v.Created),
	}
}

// apiSPM is the role as the API shows it.
func apiSPM(s fsm.SPM) api.SPM {
	return api.SPM{Host: s.Host, HostID: s.HostID, Epoch: s.Epoch, State: s.State, Since: unixTime(s.Since),
		Reason: s.Reason, Desired: s.Desired}
}

// apiPool names the pool.
func apiPool(p fsm.Pool) api.Pool {
	return api.Pool{ID: p.ID, Name: p.Name, Master: p.Master, Profile: p.Profile, Created: unixTime(p.Created), TestPool: p.Test}
}

// domainsOf lists the domains of a state with their number of volumes, the master first.
func domainsOf(st *fsm.State) []api.Domain {
	count := map[string]int{}
	for _, v := range st.Volumes().All() {
		count[v.Domain]++
	}
	out := make([]api.Domain, 0, st.Domains.Len())
	for id, d := range st.Domains.All() {
		out = append(out, withSettings(apiDomain(d, count[id]), st))
	}
	slices.SortStableFunc(out, func(a, b api.Domain) int { return strings.Compare(a.Role, b.Role) })
	return out
}

// findDomain finds a domain by UUID or name.
func findDomain(st *fsm.State, idOrName string) (fsm.Domain, error) {
	if d, ok := st.Domains.Get(strings.ToLower(idOrName)); ok {
		return d, nil
	}
	var found []fsm.Domain
	for _, d := range st.Domains.All() {
		if d.Name == idOrName {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return fsm.Domain{}, api.Errorf(api.CodeNotFound, "holdfast domain list shows what there is", "no domain %q", idOrName)
	case 1:
		return found[0], nil
	}
	return fsm.Domain{}, api.Errorf(api.CodeConflict, "use the domain's UUID", "%d domains are named %q", len(found), idOrName)
}

// domainID is the UUID of a domain by UUID or name; empty stays empty, which is the master.
func domainID(st *fsm.State, idOrName string) (string, error) {
	if idOrName == "" {
		return "", nil
	}
	d, err := findDomain(st, idOrName)
	return d.ID, err
}

// findVolume finds a volume by UUID or name.
func findVolume(st *fsm.State, idOrName string) (fsm.Volume, error) {
	found := st.VolumesByID(strings.ToLower(idOrName))
	if len(found) == 0 {
		found = st.VolumesByName(idOrName)
	}
	switch len(found) {
	case 0:
		return fsm.Volume{}, noVolume(idOrName)
	case 1:
		return found[0], nil
	}
	if leaf, ok := leafAmong(found, func(v fsm.Volume) layer { return layer{v.Domain, v.Image, v.VolType} }); ok {
		return leaf, nil
	}
	return fsm.Volume{}, api.Errorf(api.CodeConflict, "use the volume's UUID", "%d volumes are named %q", len(found), idOrName)
}

// layer is what tells the layers of an image apart.
type layer struct{ domain, image, kind string }

// leafAmong finds the one leaf among volumes of a name that all belong to one image: the layers of an image usually have its name,
// and who says it means what a guest uses.
func leafAmong[V any](vols []V, of func(V) layer) (leaf V, ok bool) {
	for _, v := range vols {
		first, l := of(vols[0]), of(v)
		if l.image != first.image || l.domain != first.domain || l.kind == domain.Leaf && ok {
			return leaf, false
		}
		if l.kind == domain.Leaf {
			leaf, ok = v, true
		}
	}
	return leaf, ok
}

// noVolume says that a volume is not there.
func noVolume(idOrName string) error {
	return api.Errorf(api.CodeNotFound, "holdfast volume list shows what there is", "no volume %q", idOrName)
}

// volumesOf lists the volumes that fit a filter.
func volumesOf(st *fsm.State, f httpapi.VolumeFilter) ([]api.Volume, error) {
	if f.Domain != "" {
		d, err := findDomain(st, f.Domain)
		if err != nil {
			return nil, err
		}
		f.Domain = d.ID
	}
	out := make([]api.Volume, 0, st.Volumes().Len())
	for _, v := range st.Volumes().All() {
		if (f.Domain == "" || v.Domain == f.Domain) && (f.Image == "" || v.Image == f.Image) && (f.Name == "" || v.Name == f.Name) {
			out = append(out, apiVolume(v))
		}
	}
	return out, nil
}

// Domains lists the domains of the mirror.
func (b *backend) Domains(context.Context) ([]api.Domain, error) {
	st, err := b.state()
	if err != nil {
		return nil, err
	}
	return domainsOf(st), nil
}

// Volumes lists volumes of the mirror.
func (b *backend) Volumes(_ context.Context, f httpapi.VolumeFilter) ([]api.Volume, error) {
	st, err := b.state()
	if err != nil {
		return nil, err
	}
	return volumesOf(st, f)
}

// Volume finds one volume of the mirror.
func (b *backend) Volume(_ context.Context, idOrName string) (api.Volume, error) {
	st, err := b.state()
	if err != nil {
		return api.Volume{}, err
	}
	v, err := findVolume(st, idOrName)
	return apiVolume(v), err
}

// Events reads the history of the mirror.
func (b *backend) Events(_ context.Context, q httpapi.EventQuery) (httpapi.EventPage, error) {
	st, err := b.state()
	if err != nil {
		return httpapi.EventPage{}, err
	}
	out := eventsAfter(st, q)
	if q.Newest {
		out = newestEvents(st, q)
	}
	return out, nil
}

// hostNext is what a person can do about a host that is not up.
func hostNext(h api.Host) string {
	switch h.State {
	case fsm.HostPreparing:
		return "end what it waits for, or holdfast host activate " + h.Name
	case fsm.HostNonResponsive, fsm.HostIsolated:
		return "see why it does not answer; once it surely is off, holdfast host confirm-rebooted " + h.Name
	}
	return ""
}

// warnings says what is not well, the worst first.
func warnings(st *fsm.State, hosts []api.Host, leader string) []api.Warning {
	var out []api.Warning
	add := func(severity, subject, next, format string, args ...any) {
		out = append(out, api.Warning{Severity: severity, Subject: subject, Message: fmt.Sprintf(format, args...), NextStep: next})
	}
	if st.TooOld != "" {
		add(api.SeverityError, "raft", "upgrade this host", "%s", st.TooOld)
	}
	if leader == "" {
		add(api.SeverityError, "raft", "see that more than half of the hosts run and reach each other", "no leader is known: the mirror stands still; volumes can still be used")
	}
	if p, ok := st.Pool(); ok && p.SPM.State != fsm.SPMServing {
		next := "holdfast events shows what the manager does"
		if p.SPM.Desired == fsm.DesireStopped {
			next = "holdfast spm start"
		}
		add(api.SeverityError, "spm", next, "nobody serves as SPM (%s): %s", p.SPM.State, p.SPM.Reason)
	}
	for _, h := range hosts {
		if h.State != fsm.HostUp && h.State != fsm.HostMaintenance {
			add(api.SeverityWarning, "host/"+h.Name, hostNext(h), "%s", strings.TrimSuffix(h.State+": "+h.Reason, ": "))
		}
	}
	if p, ok := st.Pool(); ok && p.Profile != leases.Dev.Name {
		for _, h := range hosts {
			if h.Watchdog == api.WatchdogNone {
				add(api.SeverityWarning, "host/"+h.Name, "give it a watchdog; docs/operations.md says how",
					"unprotected: nothing resets it when its leases run out, so taking over from it needs a proof or a person")
			}
		}
	}
	domainWarnings(st, add)
	spaceWarnings(st, add)
	slices.SortStableFunc(out, func(a, b api.Warning) int { return strings.Compare(a.Severity, b.Severity) })
	return out
}
