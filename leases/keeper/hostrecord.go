package keeper

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
)

// HostRecord is a host's record in a lockspace as it is on disk.
type HostRecord = leases.HostRecord

// ReadHost reads the record of a host id from the disk.
func (c *Client) ReadHost(ctx context.Context, lockspace string, hostID int) (HostRecord, error) {
	resp, err := c.call(ctx, &request{Method: methodReadHost, Name: lockspace, HostID: hostID})
	if err != nil {
		return HostRecord{}, err
	}
	if resp.Record == nil {
		return HostRecord{}, fmt.Errorf("reading host %d: %w: no record in the answer", hostID, errFrame)
	}
	return *resp.Record, nil
}

// FreeRecord frees the record of a host that is proven dead, if it is still as it was seen; see leases.FreeRecord.
func (c *Client) FreeRecord(ctx context.Context, lockspace string, seen HostRecord) error {
	_, err := c.call(ctx, &request{Method: methodFreeSeen, Name: lockspace, Record: &seen})
	return err
}

// readHost answers ReadHost.
func (s *server) readHost(ctx context.Context, req *request, resp *response) error {
	sp, err := s.joined(req.Name)
	if err != nil {
		return err
	}
	rec, err := sp.ls.ReadHost(ctx, req.HostID)
	resp.Record = &rec
	return err
}

// freeRecord answers FreeRecord.
func (s *server) freeRecord(ctx context.Context, req *request) error {
	sp, err := s.joined(req.Name)
	if err != nil {
		return err
	}
	if req.Record == nil {
		return fmt.Errorf("%w: no record to free", ErrInvalid)
	}
	return sp.ls.FreeRecord(ctx, *req.Record)
}
