package httpapi

import (
	"context"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

// MaxExtendWait bounds how long an extension waits for space, in seconds: it must end before the request does.
const MaxExtendWait = 40

// Mailbox reads the storage mailbox.
type Mailbox interface {
	// Mailbox reads the mailbox as it is on the storage, from the host that was asked.
	Mailbox(ctx context.Context) (api.Mailbox, error)
}

// checkVolumeExtend refuses what can never work.
func checkVolumeExtend(v api.VolumeExtend) error {
	switch {
	case v.Size <= 0:
		return invalid("give a size such as 20GiB", "size is %d bytes, it must be greater than 0", v.Size)
	case v.Size > 2*MaxVolumeSize:
		return invalid("no volume ever needs as much", "size is %d bytes, at most %d are allowed", v.Size, 2*MaxVolumeSize)
	case v.WaitSeconds < 0 || v.WaitSeconds > MaxExtendWait:
		return invalid("ask again later instead: the request is kept", "wait_seconds is %d, it must be between 0 and %d", v.WaitSeconds, MaxExtendWait)
	case v.ThroughStorage && v.WaitSeconds > 0:
		return invalid("give one of them", "the mailbox cannot wait for space")
	case v.SecondsToFull < 0:
		return invalid("leave it out", "seconds_to_full is %g, it must not be negative", v.SecondsToFull)
	}
	return nil
}

// extendVolume runs on the host that was asked, which has more ways to the SPM than this one: the storage as well.
func extendVolume(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	var req api.VolumeExtend
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkVolumeExtend(req); err != nil {
		return reply{}, err
	}
	if b.Volumes == nil {
		return reply{}, notMember()
	}
	v, err := b.Volumes.ExtendVolume(r.Context(), ref, req)
	if err != nil {
		return reply{}, err
	}
	return reply{body: v, mark: &Mark{Index: v.Index}, epoch: v.Epoch}, nil
}

func getMailbox(b *Backend, r *http.Request) (reply, error) {
	if b.Mailbox == nil {
		return reply{}, notMember()
	}
	m, err := b.Mailbox.Mailbox(r.Context())
	if err != nil {
		return reply{}, err
	}
	m.Hosts = noNil(m.Hosts)
	for i := range m.Hosts {
		m.Hosts[i].Slots = noNil(m.Hosts[i].Slots)
	}
	return reply{body: m}, nil
}

// checkDomainSet refuses settings that say nothing or make no sense.
func checkDomainSet(d api.DomainSet) error {
	switch {
	case d.WarnPercent == nil && d.CriticalFree == nil:
		return invalid("give warn_percent, critical_free or both", "there is nothing to set")
	case d.WarnPercent != nil && (*d.WarnPercent < 0 || *d.WarnPercent > 100):
		return invalid("give a share of the domain's size", "warn_percent is %d, it must be between 0 and 100", *d.WarnPercent)
	case d.CriticalFree != nil && *d.CriticalFree < 0:
		return invalid("give a size such as 5GiB", "critical_free is %d bytes, it must not be negative", *d.CriticalFree)
	}
	return nil
}

func setDomain(b *Backend, r *http.Request) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	var req api.DomainSet
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkDomainSet(req); err != nil {
		return reply{}, err
	}
	if b.Domains == nil {
		return reply{}, notMember()
	}
	d, err := b.findDomain(r.Context(), ref)
	if err != nil {
		return reply{}, err
	}
	if d, err = b.Domains.SetDomain(r.Context(), d.ID, req); err != nil {
		return reply{}, err
	}
	d.LUNs = noNil(d.LUNs)
	return reply{body: d, epoch: d.Epoch}, nil
}
