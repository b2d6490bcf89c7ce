package xlease

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
)

// Problem is one inconsistency of index and resources.
type Problem struct {
	// Harmless problems cost nobody anything; the next operation or rebuild removes them.
	Harmless bool
	Where    string
	What     string
	Repair   string
}

// What to do about problems.
const (
	repairRebuild  = "rebuild the index of external leases (holdfast lease rebuild) while no lease of it is held; disks are not concerned"
	repairLeftover = "none needed: it is overwritten when its place is taken; holdfast lease rebuild clears it"
)

// Check lists what is wrong with the index and with what it refers to. It changes nothing. Under a running SPM it may see
// a change half done.
func (v *Volume) Check(ctx context.Context) ([]Problem, error) {
	x, err := v.read(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, ErrIndex) && x != nil:
		return []Problem{{Where: "index", What: err.Error(), Repair: repairRebuild + "; --force makes a new head"}}, nil
	case err != nil:
		return []Problem{{Where: "index", What: err.Error(), Repair: "check the path to the LUN"}}, nil
	}
	var out []Problem
	if x.Lockspace() != v.cfg.Lockspace {
		out = append(out, Problem{Where: "index", What: fmt.Sprintf("is that of lockspace %q", x.Lockspace()), Repair: repairRebuild})
	}
	if x.Updating() {
		out = append(out, Problem{Where: "index", What: ErrUpdating.Error(), Repair: repairRebuild})
	}
	seen, err := v.lookAtAll(ctx)
	if err != nil {
		return nil, err
	}
	return append(out, v.compare(x, seen)...), nil
}

// lookAtAll names the resources of all places.
func (v *Volume) lookAtAll(ctx context.Context) ([]found, error) {
	seen := make([]found, v.Capacity())
	return seen, readAll(ctx, len(seen), readAtLeast, func(ctx context.Context, n int, b []byte) error {
		if err := v.readArea(ctx, b, resourceOffset(n, v.geo.AlignSize)); err != nil {
			seen[n].damaged = err
			return err
		}
		seen[n] = v.identify(b)
		return nil
	})
}

// compare goes through all records.
func (v *Volume) compare(x *Index, seen []found) []Problem {
	var out []Problem
	first := map[string]int{}
	for n := range MaxRecords {
		id, updating, state := decodeRecord(x.record(n))
		var p *Problem
		switch _, double := first[id]; {
		case state == recordUnreadable:
			p = &Problem{What: "the record cannot be read", Repair: repairRebuild}
		case state == recordFree && n < len(seen):
			p = leftover(&seen[n])
		case state == recordFree:
		case n >= len(seen):
			p = &Problem{What: fmt.Sprintf("lease %s lies beyond the end of the volume", id), Repair: repairRebuild}
		case double:
			p = &Problem{What: fmt.Sprintf("lease %s is in record %d already", id, first[id]), Repair: repairRebuild}
		case updating:
			p = &Problem{Harmless: true, What: fmt.Sprintf("lease %s was being made or deleted by an old VDSM", id),
				Repair: "delete the lease, or create it again"}
		default:
			p = missing(id, &seen[n])
		}
		if state == recordUsed {
			if _, double := first[id]; !double {
				first[id] = n
			}
		}
		if p != nil {
			p.Where = fmt.Sprintf("record %d", n)
			out = append(out, *p)
		}
	}
	return out
}

// leftover is what a free record's place must not hold.
func leftover(f *found) *Problem {
	switch {
	case f.damaged != nil:
		return &Problem{Harmless: true, What: fmt.Sprintf("its place holds a damaged resource: %v", f.damaged), Repair: repairLeftover}
	case f.id != "":
		return &Problem{Harmless: true, What: fmt.Sprintf("resource %s has no record", f.id), Repair: repairLeftover}
	}
	return nil // nothing, or what the LUN held before it was given to this domain
}

// missing is what a used record's place must hold.
func missing(id string, f *found) *Problem {
	switch {
	case f.damaged != nil && !errors.Is(f.damaged, leases.ErrCorrupt):
		return &Problem{What: fmt.Sprintf("the resource of lease %s cannot be read: %v", id, f.damaged), Repair: "check the path to the LUN, or " + repairRebuild}
	case f.damaged != nil:
		return &Problem{What: fmt.Sprintf("the resource of lease %s is damaged: %v", id, f.damaged), Repair: repairRebuild + "; --force writes it anew"}
	case f.id == id:
		return nil
	case f.id != "":
		return &Problem{What: fmt.Sprintf("lease %s has the resource of %s", id, f.id), Repair: repairRebuild}
	}
	return &Problem{What: fmt.Sprintf("lease %s has no resource; nobody can take it", id), Repair: repairRebuild}
}
