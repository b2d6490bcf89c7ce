package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/direct"
)

// dumpTarget parses PATH[:OFFSET[:SIZE]].
func dumpTarget(s string) (path string, r direct.Range) {
	f := append(splitColons(s), "", "")
	return f[0], direct.Range{Offset: cOffset(f[1]), Size: max(0, cOffset(f[2]))}
}

func (s *sanlockRun) dump(ctx context.Context) int {
	path, r := dumpTarget(s.o.dumpPath)
	r.Geometry, _ = s.o.geometry() // incomplete sizes are no sizes here
	if r.Geometry.Validate() != nil {
		r.Geometry = leases.Geometry{}
	}
	d := &dumper{out: s.out, level: s.o.force, name: leases.Name.String}
	err := s.tool.Dump(ctx, path, r, func() {
		if r.Offset%(1<<20) != 0 {
			fmt.Fprintf(s.out, "WARNING: dump offset should be a multiple of %d bytes.\n", 1<<20)
		}
	}, func(leases.Geometry) { d.head() }, d.area)
	switch {
	case err == nil:
		return exitOK
	case direct.Code(err) == direct.CodeNoDevice:
		fmt.Fprintf(s.out, "Device %s not found.\n", path)
	case errors.Is(err, direct.ErrSizes):
		fmt.Fprintln(s.out, "Cannot find sector_size and align_size, set with -A and -Z.")
	}
	return exitFailed
}

// dumper prints areas in sanlock's layout.
type dumper struct {
	out   io.Writer
	level int                      // 1: requests, bits and index entries too; 2: ballots too
	name  func(leases.Name) string // how to show a name
}

func (d *dumper) head() {
	last := "lver"
	if d.level > 0 {
		last = "lver/req/mode"
	}
	fmt.Fprintf(d.out, "%8s %36s %48s %10s %4s %4s %s\n", "offset", "lockspace", "resource", "timestamp", "own", "gen", last)
}

func (d *dumper) area(a *direct.Area) error {
	switch a.Kind {
	case direct.KindLockspace:
		for i := range a.Hosts {
			d.host(&a.Hosts[i])
		}
	case direct.KindResource:
		d.resource(a)
	case direct.KindIndex:
		d.index(a)
	case direct.KindCleared, direct.KindOther:
	}
	return nil
}

// leader prints what hosts and resources have in common.
func (d *dumper) leader(off int64, l *leases.Leader) {
	fmt.Fprintf(d.out, "%08d %36s %48s %010d %04d %04d", off, d.name(l.Space), d.name(l.Resource), l.Timestamp, l.OwnerID, l.OwnerGeneration)
}

func (d *dumper) host(h *direct.HostRecord) {
	d.leader(h.Offset, &h.Leader)
	if d.level > 0 {
		for _, b := range h.Bits {
			fmt.Fprintf(d.out, " %d", b)
		}
	}
	fmt.Fprintln(d.out)
}

func (d *dumper) resource(a *direct.Area) {
	d.leader(a.Offset, &a.Leader)
	fmt.Fprintf(d.out, " %d", a.Leader.Lver)
	if d.level > 0 {
		fmt.Fprintf(d.out, "/%d/%d", a.Request.Lver, a.Request.ForceMode)
	}
	fmt.Fprintln(d.out)
	for i := range a.Blocks {
		d.block(&a.Blocks[i])
	}
}

func (d *dumper) block(h *direct.HostBlock) {
	b := &h.Block
	if d.level > 1 && (b.Mbal|b.Inp|b.Lver) != 0 {
		fmt.Fprintf(d.out, "dblock[%04d] mbal %d bal %d inp %d inp2 %d inp3 %d lver %d sum %x\n",
			h.Host-1, b.Mbal, b.Bal, b.Inp, b.Inp2, b.Inp3, b.Lver, b.Checksum)
	}
	if b.Shared() {
		fmt.Fprintf(d.out, "%105s %04d %04d SH\n", "", h.Host, b.ModeGeneration)
	}
}

func (d *dumper) index(a *direct.Area) {
	x := &a.Index
	fmt.Fprintf(d.out, "%08d %36s rindex_header 0x%x %d %d %d\n", a.Offset, d.name(x.Space), x.Flags, x.SectorSize, x.MaxResources, x.Offset)
	if d.level < 1 {
		return
	}
	for i := range a.Entries {
		e := &a.Entries[i]
		fmt.Fprintf(d.out, "%08d %36s rentry %s %d\n", e.Offset, d.name(x.Space), d.name(e.Entry.Name), e.Entry.Offset)
	}
}
