package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/leases/direct"
)

func (s *sanlockRun) format(ctx context.Context) int {
	geo, err := s.o.geometry()
	if err != nil {
		return s.doneCode("format", direct.CodeFailed)
	}
	return s.done("format", s.tool.FormatIndex(ctx, s.o.index.place, s.o.index.space, geo))
}

// entry is NAME[:OFFSET] of -e.
func (o *sanlockOptions) entry() (name string, off int64) {
	f := append(splitColons(o.name), "")
	return cutName(f[0]), cOffset(f[1])
}

func (s *sanlockRun) lookup(ctx context.Context) int {
	name, off := s.o.entry()
	found, err := s.tool.LookupIndex(ctx, s.o.index.place, s.o.index.space, name, off)
	status := s.done("lookup", err)
	if err == nil {
		fmt.Fprintf(s.out, "name %s offset %d\n", cmp.Or(found.Name, "-"), found.Offset)
	}
	return status
}

func (s *sanlockRun) update(ctx context.Context) int {
	name, off := s.o.entry()
	return s.done("update", s.tool.UpdateIndex(ctx, s.o.index.place, s.o.index.space, name, off, s.o.clear))
}

func (s *sanlockRun) rebuild(ctx context.Context) int {
	return s.done("rebuild", s.tool.RebuildIndex(ctx, s.o.index.place, s.o.index.space))
}
