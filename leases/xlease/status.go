package xlease

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// readWidth is how many resources are read at the same time.
const readWidth = 16

// readAtLeast is what is read of a resource even when fewer sectors would do: a page.
const readAtLeast = 4096

// Hosts looks at the hosts of the domain's lockspace as they are now.
type Hosts func(ctx context.Context) (*leases.Survey, error)

// Status is a lease and who has it.
type Status struct {
	Record
	leases.Judgement
	// Err says why the judgement could not be made: the resource is not the lease's, damaged, or cannot be read.
	Err error
}

// List reads all leases and who has them. The hosts are looked at before, to know how much of each resource must be
// read, and after, since only what is newer than a resource can tell that its holder is gone.
func (v *Volume) List(ctx context.Context, hosts Hosts) ([]Status, error) {
	x, err := v.Load(ctx)
	if err != nil {
		return nil, err
	}
	return v.statuses(ctx, x, x.Records(), hosts)
}

// Show reads one lease and who has it.
func (v *Volume) Show(ctx context.Context, id string, hosts Hosts) (Status, error) {
	x, err := v.Load(ctx)
	if err != nil {
		return Status{}, err
	}
	rec, err := x.Lookup(id)
	if err != nil {
		return Status{}, err
	}
	list, err := v.statuses(ctx, x, []Record{rec}, hosts)
	switch {
	case err != nil:
		return Status{}, err
	case len(list) == 0: // deleted just now
		return Status{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return list[0], list[0].Err
}

// statuses judges the given leases. What does not fit is looked at again with the index as it is now, because a lease
// may have been deleted since x was read; one that was is left out.
func (v *Volume) statuses(ctx context.Context, x *Index, recs []Record, hosts Hosts) ([]Status, error) {
	list, err := v.judgeAll(ctx, recs, hosts)
	if err != nil || !anyFailed(list) {
		return list, err
	}
	now, err := v.Load(ctx)
	if err != nil {
		return nil, err
	}
	var out []Status
	for _, st := range list {
		if st.Err == nil || string(now.record(st.N)) == string(x.record(st.N)) {
			out = append(out, st)
		}
	}
	return out, nil
}

func anyFailed(list []Status) bool {
	for _, st := range list {
		if st.Err != nil {
			return true
		}
	}
	return false
}

// judgeAll reads and judges the resources of recs.
func (v *Volume) judgeAll(ctx context.Context, recs []Record, hosts Hosts) ([]Status, error) {
	list := make([]Status, len(recs))
	seen := make([]*leases.Sighting, len(recs))
	s, err := v.survey(ctx, hosts, len(recs), func(ctx context.Context, i int, b []byte) error {
		r := recs[i]
		list[i] = Status{Record: r, Err: v.readArea(ctx, b, r.Offset)}
		if list[i].Err == nil {
			seen[i], list[i].Err = leases.SightResource(b, v.geo, v.cfg.Lockspace, r.ID)
		}
		return list[i].Err
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Err == nil {
			list[i].Judgement, list[i].Err = s.Judge(seen[i])
		}
	}
	return list, nil
}

// surveys bounds how often hosts that join meanwhile make us read again.
const surveys = 4

// survey looks at the hosts, calls read for each of n resources with a buffer as large as joined hosts make necessary,
// and returns the hosts as they are afterwards. When one joined meanwhile whose blocks were not read, it begins again. It
// gives up at the first error of read that is about the device and not about one lease.
func (v *Volume) survey(ctx context.Context, hosts Hosts, n int, read func(ctx context.Context, i int, b []byte) error) (*leases.Survey, error) {
	s, err := hosts(ctx)
	if err != nil {
		return nil, err
	}
	for range surveys {
		if err := readAll(ctx, n, v.areaSize(s), read); err != nil {
			return nil, fmt.Errorf("reading leases: %w", err)
		}
		before := s.Highest()
		if s, err = hosts(ctx); err != nil {
			return nil, err
		}
		if s.Highest() <= before {
			return s, nil
		}
	}
	return nil, errors.New("hosts join the lockspace faster than its leases can be read: try again")
}

// readAll calls read for 0..n-1 with a buffer, some at the same time. A device that does not answer, or is gone, is not
// asked for the rest.
func readAll(ctx context.Context, n int, size int64, read func(ctx context.Context, i int, b []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parallel(n, func() func(int) {
		b := make([]byte, size)
		return func(i int) {
			if ctx.Err() != nil {
				return
			}
			if err := read(ctx, i, b); err != nil && deviceFailed(err) {
				cancel(err)
			}
		}
	})
	return context.Cause(ctx)
}

// deviceFailed says whether an error is about the device as a whole.
func deviceFailed(err error) bool {
	return errors.Is(err, blockdev.ErrTimeout) || errors.Is(err, blockdev.ErrGone) || errors.Is(err, blockdev.ErrPending)
}

// areaSize is how much of each resource must be read.
func (v *Volume) areaSize(s *leases.Survey) int64 {
	n := int64(leases.AreaSectors(s.Highest())) * int64(v.geo.SectorSize)
	return min(max(n, readAtLeast), v.geo.AlignSize)
}

// readArea fills b with the start of the resource at off.
func (v *Volume) readArea(ctx context.Context, b []byte, off int64) error {
	if off > v.dev.Size()-v.geo.AlignSize {
		return fmt.Errorf("%w: it would lie beyond the end of the volume", ErrDamaged)
	}
	return v.readAt(ctx, b, off)
}

// parallel calls a function that each worker makes for itself with 0..n-1, readWidth at a time at most, and waits.
func parallel(n int, worker func() func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, readWidth) {
		wg.Go(func() {
			f := worker()
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// Refuse returns an InUseError when a lease is held, ErrDamaged when nobody can tell, and nil when it may be deleted. A
// lease that is not in the index, or whose resource is not there, can be held by nobody.
func (v *Volume) Refuse(ctx context.Context, id string, hosts Hosts) error {
	st, err := v.Show(ctx, id, hosts)
	switch {
	case errors.Is(err, leases.ErrNoLease), errors.Is(err, ErrNotFound):
		return nil
	case errors.Is(err, leases.ErrCorrupt), errors.Is(err, leases.ErrVersion), errors.Is(err, leases.ErrGeometry):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case err != nil:
		return err
	case st.State != leases.ResourceFree:
		return &InUseError{ID: id, Judgement: st.Judgement}
	}
	return nil
}
