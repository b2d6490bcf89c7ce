package xlease

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
)

// RebuildOptions say how careful Rebuild has to be.
type RebuildOptions struct {
	// Hosts judges who holds what. Required.
	Hosts Hosts
	// Force rebuilds although leases are held, or damaged so that nobody can tell, and makes a new head where the old
	// one cannot be read.
	Force bool
}

// Report is what Rebuild changed.
type Report struct {
	// Leases is how many the index has now.
	Leases int `json:"leases"`
	// Written are leases whose resource was missing or another's and was written anew.
	Written []string `json:"written,omitempty"`
	// Recovered are leases whose record could not be read and was made from the resource.
	Recovered []string `json:"recovered,omitempty"`
	// Freed is how many records were freed that could not be read or had a double.
	Freed int `json:"freed,omitempty"`
	// Cleared is how many resources without a record were cleared.
	Cleared int `json:"cleared,omitempty"`
}

// found is what lies in the place of a resource.
type found struct {
	id       string // whose resource it is; empty: none, or none of this lockspace
	foreign  bool   // a resource of another lockspace
	damaged  error
	sighting *leases.Sighting
	leader   leases.Leader
}

// Rebuild makes index and resources agree. Records win over resources; resources make up for records that cannot be
// read. Nothing is changed when a lease is held, unless Force is set.
//
// The index is marked as being written before anything else changes, so that nobody takes a lease from it meanwhile. A
// crash leaves the mark, and another Rebuild finishes.
func (v *Volume) Rebuild(ctx context.Context, o RebuildOptions) (Report, error) {
	r := &rebuild{v: v, o: o}
	for _, step := range []func(context.Context) error{r.load, r.look, r.refuse, r.mark, r.decide, r.carryOut} {
		if err := step(ctx); err != nil {
			return Report{}, fmt.Errorf("rebuilding the index of external leases: %w", err)
		}
	}
	if err := v.writeAll(ctx, r.index); err != nil {
		return Report{}, fmt.Errorf("rebuilding the index of external leases: %w", err)
	}
	r.report.Leases = len(r.index.Records())
	return r.report, nil
}

// rebuild is one run.
type rebuild struct {
	v      *Volume
	o      RebuildOptions
	index  *Index
	found  []found // by number
	hosts  *leases.Survey
	plan   []change
	report Report
}

// change is a resource to be written; an empty id clears the place.
type change struct {
	n  int
	id string
}

// load reads the index. A head that cannot be read says that this may be no index at all.
func (r *rebuild) load(ctx context.Context) error {
	x, err := r.v.read(ctx)
	if err != nil && (x == nil || !r.o.Force) {
		return err
	}
	r.index = x
	return nil
}

// look reads all places.
func (r *rebuild) look(ctx context.Context) (err error) {
	r.found = make([]found, r.v.Capacity())
	errs := make([]error, len(r.found))
	r.hosts, err = r.v.survey(ctx, r.o.Hosts, len(r.found), func(ctx context.Context, n int, b []byte) error {
		if errs[n] = r.v.readArea(ctx, b, resourceOffset(n, r.v.geo.AlignSize)); errs[n] == nil {
			r.found[n] = r.v.identify(b)
		}
		return errs[n]
	})
	return errors.Join(err, errors.Join(errs...)) // what cannot be read is not overwritten
}

// identify says whose resource lies at the start of b.
func (v *Volume) identify(b []byte) found {
	var f found
	space, id, err := leases.ResourceAt(b)
	switch {
	case errors.Is(err, leases.ErrNoLease):
		return f
	case err != nil:
		f.damaged = err
		return f
	case space != v.cfg.Lockspace:
		f.foreign = true
		return f
	}
	f.id = id
	f.sighting, f.damaged = leases.SightResource(b, v.geo, space, id)
	if err := f.leader.Decode(b); err != nil {
		f.damaged = err
	}
	return f
}

// refuse says no when something is held, or damaged so that it might be.
func (r *rebuild) refuse(context.Context) error {
	if r.o.Force {
		return nil
	}
	var held *InUseError
	for n := range r.found {
		f := &r.found[n]
		if f.damaged != nil {
			return fmt.Errorf("%w: at %d: %w", ErrDamaged, resourceOffset(n, r.v.geo.AlignSize), f.damaged)
		}
		if f.sighting == nil {
			continue
		}
		j, err := r.hosts.Judge(f.sighting)
		switch {
		case err != nil:
			return fmt.Errorf("%w: at %d: %w", ErrDamaged, resourceOffset(n, r.v.geo.AlignSize), err)
		case j.State == leases.ResourceFree:
		case held == nil:
			held = &InUseError{ID: f.id, Judgement: j}
		default:
			held.Others++
		}
	}
	if held != nil {
		return held
	}
	return nil
}

// mark keeps everybody from using the index.
func (r *rebuild) mark(ctx context.Context) error {
	r.index = r.index.clone()
	r.index.setHead(head{lockspace: r.v.cfg.Lockspace, mtime: r.v.cfg.Now(), updating: true})
	return r.v.writeHead(ctx, r.index)
}

// decide makes the new index and the list of resources to write.
func (r *rebuild) decide(context.Context) error {
	x := r.index
	ids := map[string]int{} // id -> first record that has it
	for _, rec := range x.Records() {
		if _, ok := ids[rec.ID]; !ok {
			ids[rec.ID] = rec.N
		}
	}
	for n := range MaxRecords {
		id, _, state := decodeRecord(x.record(n))
		var f found
		if n < len(r.found) {
			f = r.found[n]
		}
		none := f.id == "" && !f.foreign && f.damaged == nil
		switch {
		case n >= len(r.found):
			r.free(n, state)
		case state == recordFree:
			x.put(n, "") // exactly, or it would never be used again
			r.clear(n, none)
		case state == recordUsed && ids[id] != n:
			r.free(n, state)
			r.clear(n, none)
		case state == recordUsed:
			x.put(n, id)
			r.write(n, id, f)
		case f.id == "" || f.damaged != nil || CheckID(f.id) != nil || taken(ids, f.id):
			r.free(n, state)
			r.clear(n, none)
		default:
			ids[f.id] = n
			x.put(n, f.id)
			r.report.Recovered = append(r.report.Recovered, f.id)
		}
	}
	return nil
}

func taken(ids map[string]int, id string) bool {
	_, ok := ids[id]
	return ok
}

// free frees a record.
func (r *rebuild) free(n int, was recordState) {
	r.index.put(n, "")
	if was != recordFree {
		r.report.Freed++
	}
}

// clear plans to clear a place, unless there is nothing.
func (r *rebuild) clear(n int, none bool) {
	if !none {
		r.plan = append(r.plan, change{n: n})
		r.report.Cleared++
	}
}

// write plans to write a lease's resource, unless it is there.
func (r *rebuild) write(n int, id string, f found) {
	if f.id != id || f.damaged != nil {
		r.plan = append(r.plan, change{n: n, id: id})
		r.report.Written = append(r.report.Written, id)
	}
}

// carryOut writes the resources.
func (r *rebuild) carryOut(ctx context.Context) error {
	for _, c := range r.plan {
		if err := r.unchanged(ctx, c.n); err != nil {
			return err
		}
		var err error
		if c.id == "" {
			err = r.v.clearResource(ctx, c.n)
		} else {
			err = r.v.initResource(ctx, c.n, c.id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unchanged looks at a place once more before it is overwritten: a host that found its lease before the index was marked
// may have taken it meanwhile.
func (r *rebuild) unchanged(ctx context.Context, n int) error {
	if r.found[n].sighting == nil || r.o.Force {
		return nil
	}
	b := make([]byte, readAtLeast)
	if err := r.v.readArea(ctx, b, resourceOffset(n, r.v.geo.AlignSize)); err != nil {
		return err
	}
	if now := r.v.identify(b); now.leader != r.found[n].leader {
		return fmt.Errorf("lease %s was taken just now: %w", r.found[n].id, leases.ErrChanged)
	}
	return nil
}
