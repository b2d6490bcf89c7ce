package host

import (
	"context"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

// externalLeases are the leases in a domain's volume xleases.
func (l Locks) externalLeases(dev blockdev.Device, lockspace string) (*xlease.Volume, error) {
	return xlease.New(xlease.Config{Device: dev, Lockspace: lockspace, Geometry: geometry(dev), NumHosts: maxHostID,
		IOTimeout: callTimeout(l.IOTimeout), Log: l.Log})
}

// FormatLeaseIndex writes an empty index of external leases.
func (l Locks) FormatLeaseIndex(ctx context.Context, dev blockdev.Device, lockspace string) error {
	v, err := l.externalLeases(dev, lockspace)
	if err != nil {
		return err
	}
	return v.Format(ctx)
}

// CheckLeaseIndex tells what is wrong with the external leases.
func (l Locks) CheckLeaseIndex(ctx context.Context, dev blockdev.Device, lockspace string) ([]domain.Finding, error) {
	v, err := l.externalLeases(dev, lockspace)
	if err != nil {
		return nil, err
	}
	problems, err := v.Check(ctx)
	var out []domain.Finding
	for _, p := range problems {
		f := domain.Finding{Severity: domain.SeverityWarning, Where: p.Where, What: p.What, Repair: p.Repair}
		if p.Harmless {
			f.Severity = domain.SeverityNote
		}
		out = append(out, f)
	}
	return out, err
}
