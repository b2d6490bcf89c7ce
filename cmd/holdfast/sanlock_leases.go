package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/direct"
)

func (s *sanlockRun) init(ctx context.Context) int {
	o := s.o
	geo, err := o.geometry()
	switch {
	case o.lockspace.place.Path == "" && o.resource == nil:
		return s.doneCode("init", direct.CodeInvalid)
	case o.lockspace.place.Path == "" && o.resource.disks == 0:
		return s.doneCode("init", direct.CodeNoDevice)
	case err != nil:
		return s.doneCode("init", direct.CodeFailed)
	case o.lockspace.place.Path != "":
		return s.done("init", s.tool.InitLockspace(ctx, o.lockspace.place, o.lockspace.name, geo))
	case o.resource.disks > 1:
		return s.doneCode("init", direct.CodeInvalid)
	}
	return s.done("init", s.tool.InitResource(ctx, o.resource.place, direct.ResourceInit{
		Space: o.resource.space, Name: o.resource.name, Geometry: geo, NumHosts: o.numHosts, Clear: o.clear}))
}

func (s *sanlockRun) readLeader(ctx context.Context) int {
	var l leases.Leader
	var err error
	last := "write"
	switch o := s.o; {
	case o.lockspace.place.Path != "":
		last = "extra"
		l, err = s.tool.ReadHost(ctx, o.lockspace.place, o.lockspace.name, o.lockspace.hostID)
	case o.resource != nil && o.resource.disks == 1:
		l, err = s.tool.ReadResource(ctx, o.resource.place, o.resource.space, o.resource.name)
	default:
		last = "extra"
		err = &direct.Error{Number: direct.CodeFailed, Err: fmt.Errorf("neither lockspace nor resource")}
	}
	status := s.done("read_leader", err)
	s.printLeader(&l, last)
	return status
}

// printLeader prints the fields of a leader. The last three have other meanings in a lockspace.
func (s *sanlockRun) printLeader(l *leases.Leader, last string) {
	names := []string{"write_id", "write_generation", "write_timestamp"}
	if last == "extra" {
		names = []string{"extra1", "extra2", "extra3"}
	}
	fmt.Fprintf(s.out, "magic 0x%x\nversion 0x%x\nflags 0x%x\nsector_size %d\nnum_hosts %d\nmax_hosts %d\n",
		l.Magic, l.Version, l.Flags, l.SectorSize, l.NumHosts, l.MaxHosts)
	fmt.Fprintf(s.out, "owner_id %d\nowner_generation %d\nlver %d\nspace_name %s\nresource_name %s\ntimestamp %d\nchecksum 0x%x\nio_timeout %d\n",
		l.OwnerID, l.OwnerGeneration, l.Lver, l.Space, l.Resource, l.Timestamp, l.Checksum, l.IOTimeout)
	fmt.Fprintf(s.out, "%s %d\n%s %d\n%s %d\n", names[0], l.WriteID, names[1], l.WriteGeneration, names[2], l.WriteTimestamp)
}

// acquireID cuts the host's name where sanlock does, so that both take a long one for the same.
func (s *sanlockRun) acquireID(ctx context.Context) int {
	o, name := s.o, s.o.name
	if name == "" {
		name = randomHostName()
	}
	return s.done("acquire_id", s.tool.AcquireID(ctx, o.lockspace.place, o.lockspace.name, o.lockspace.hostID, name[:min(len(name), 47)]))
}

// cutName is as much of a name as a record holds.
func cutName(s string) string { return leases.RawName(s).String() }

// randomHostName is unique, so that nobody mistakes the record for its own.
func randomHostName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x.%s", b[:4], b[4:6], b[6:8], b[8:10], b[10:], host)
}

// renewID answers with the word that scripts have always got from sanlock, spelling mistake and all.
func (s *sanlockRun) renewID(ctx context.Context) int {
	o := s.o
	return s.done("rewew_id", s.tool.RenewID(ctx, o.lockspace.place, o.lockspace.name, o.lockspace.hostID))
}

func (s *sanlockRun) releaseID(ctx context.Context) int {
	o := s.o
	return s.done("release_id", s.tool.ReleaseID(ctx, o.lockspace.place, o.lockspace.name, o.lockspace.hostID))
}

func (s *sanlockRun) acquire(ctx context.Context) int {
	return s.onResource(ctx, "acquire", s.tool.Acquire)
}

func (s *sanlockRun) release(ctx context.Context) int {
	return s.onResource(ctx, "release", s.tool.Release)
}

// onResource does what acquire and release have in common.
func (s *sanlockRun) onResource(ctx context.Context, action string,
	f func(context.Context, direct.Place, string, string, direct.Owner) error) int {
	r := s.o.resource
	switch {
	case r == nil, r.disks > 1:
		return s.doneCode(action, direct.CodeInvalid)
	case r.disks == 0:
		return s.doneCode(action, direct.CodeFailed)
	}
	return s.done(action, f(ctx, r.place, r.space, r.name, direct.Owner{HostID: s.o.hostID, Generation: s.o.generation}))
}
