package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/plant"
	"github.com/holdfast-io/holdfast/leases"
)

// Names of the RPC methods that a Witness answers.
const (
	MethodPing    = "host.ping"
	MethodInspect = "host.inspect"
	MethodFree    = "host.free"
	MethodSight   = "host.sight"
	MethodYield   = "host.yield"
	// MethodExplain asks the leader for its Status.
	MethodExplain = "manager.explain"
	// MethodEdge tells the leader that something changed on the host that calls; MethodReopen has a host look at a domain again.
	MethodEdge   = "manager.edge"
	MethodReopen = "domain.reopen"
)

// PingReply is a host's answer about itself. It touches no disk.
type PingReply struct {
	Host        string     `json:"host"`
	HostID      int        `json:"host_id"`
	Role        spm.Status `json:"role"`
	Generation  uint64     `json:"generation"`
	KeeperOK    bool       `json:"keeper_ok"`
	MasterValid bool       `json:"master_valid"`
	// Watchdog is what resets the host's machine, one of fsm's kinds; WatchdogTime is in seconds.
	Watchdog     string    `json:"watchdog,omitempty"`
	WatchdogTime int       `json:"watchdog_time,omitempty"`
	Started      time.Time `json:"started"` // of the agent: a new value is a restart
	// Master is the domain that Generation and MasterValid are about; empty: the host has none open, or does not say.
	Master string `json:"master,omitempty"`
	// Renewals is how the host's renewals in the master's lockspace go.
	Renewals string `json:"renewals,omitempty"`
	// Use is what keeps the host from maintenance; nil: it does not know that it is wanted there, or not yet what it does.
	Use *HostUse `json:"use,omitempty"`
	// Busy counts what the host uses: attached volumes and held leases; nil: nobody needs it (CountsUses), or it is not known.
	Busy *int `json:"busy,omitempty"`

	// Domains are left out when nothing has changed since DomainsSeq was the number that the leader asked with.
	Domains    []DomainReport `json:"domains,omitempty"`
	DomainsSeq uint64         `json:"domains_seq,omitempty"`
}

// How the renewals of a host go. Failing: three quarters of the lease's life have passed since the last one; late: half.
const (
	RenewalsOK      = ""
	RenewalsLate    = "late"
	RenewalsFailing = "failing"
)

// InspectReply is what a host reads on the master domain.
type InspectReply struct {
	Master     string              `json:"master,omitempty"` // the domain that was read; empty: by a host that does not say
	Lease      spm.LeaseInfo       `json:"lease"`
	LeaseError string              `json:"lease_error,omitempty"` // why Lease is not valid
	Hosts      []leases.HostStatus `json:"hosts"`                 // the lockspace, from the keeper's memory
}

// FreeRequest asks a host to free the lockspace record of a host that is proven dead.
type FreeRequest struct {
	HostID     int    `json:"host_id"`
	Lockspace  string `json:"lockspace"`
	Generation uint64 `json:"generation"`
	// Late allows a record to be freed that one write changed after the proof.
	Late bool `json:"late"`
}

// FreeReply tells what the proof allowed. VerdictFree, VerdictLate and VerdictDone: the record is free now.
type FreeReply struct {
	Verdict Verdict `json:"verdict"`
}

// SightRequest asks for the records of hosts in every lockspace that the asked host has joined.
type SightRequest struct {
	HostIDs []int `json:"host_ids"`
	// Disk reads them now; otherwise they are as the keeper saw them at its last renewal.
	Disk bool `json:"disk"`
	// Unused names ids too that the keeper knows nothing of, as their records on disk are.
	Unused bool `json:"unused,omitempty"`
}

// SightReply lists what could be read.
type SightReply struct {
	Seen []SpaceSight `json:"seen"`
}

// SpaceSight is a host's record in one lockspace.
type SpaceSight struct {
	Lockspace string            `json:"lockspace"`
	Record    leases.HostRecord `json:"record"`
	State     leases.HostState  `json:"state"`     // by the keeper's memory
	Looked    time.Duration     `json:"looked_ns"` // since the record was read
	Silent    time.Duration     `json:"silent_ns"` // since the keeper saw it change
	DeadIn    time.Duration     `json:"dead_in_ns"`
}

// Lockspaces are those that this host has joined, by the UUIDs of their domains, as its keeper sees them.
type Lockspaces interface {
	// Joined names them.
	Joined() []string
	Hosts(ctx context.Context, lockspace string) ([]leases.HostStatus, error)
	ReadHost(ctx context.Context, lockspace string, hostID int) (leases.HostRecord, error)
	// FreeRecord frees a record that is as it was seen. Nothing but Witness.Free may call it: it asks for a proof first.
	FreeRecord(ctx context.Context, lockspace string, seen leases.HostRecord) error
}

// Proofs finds a recorded proof about exactly this generation of a host id in a lockspace. It looks into the host's own
// mirror, never at what a caller says.
type Proofs interface {
	ProofOf(hostID int, lockspace string, generation uint64) (fsm.Proof, bool)
}

// LeaseReader reads the SPM lease from the disk. spm.KeeperLease is one.
type LeaseReader interface {
	Inspect(ctx context.Context) (spm.LeaseInfo, error)
}

// Self tells what a host knows of itself.
type Self interface {
	// Health returns the generation of its host id, whether its keeper runs and renews, and whether the master can
	// be read. It must not block on a device.
	Health() (generation uint64, keeperOK, masterValid bool)
	// Renewals tells how the host's renewals in the master's lockspace go.
	Renewals() string
	// Heed takes in what is wanted of the host, and says what it uses; nil: nothing is wanted, or it does not know yet.
	Heed(req PingRequest) *HostUse
}

// Witness answers the manager's questions on every host.
type Witness struct {
	Host    string
	HostID  int
	Role    func() spm.Status
	Self    Self
	Master  string        // the master's lockspace, for a pool whose master never changes
	Present func() string // the same as this host uses it now; empty: it is not open here. nil: Master
	Spaces  Lockspaces
	Lease   LeaseReader
	Proofs  Proofs
	Asker   Asker
	Started time.Time
	// Watchdog is what resets this machine, and after how many seconds; nil or empty while it is not known.
	Watchdog func() (kind string, seconds int)
	// Domains reports on every domain, or nothing when seen is the number of the last reports; nil: nothing is monitored here.
	Domains func(seen uint64) (reports []DomainReport, seq uint64)
}

// master is the lockspace that Ping and Inspect are about.
func (w *Witness) master() string {
	if w.Present != nil {
		return w.Present()
	}
	return w.Master
}

// Ping answers about this host.
func (w *Witness) Ping(_ context.Context, req PingRequest) (PingReply, error) {
	gen, keeper, master := w.Self.Health()
	rep := PingReply{Host: w.Host, HostID: w.HostID, Role: w.Role(), Generation: gen, KeeperOK: keeper,
		MasterValid: master, Started: w.Started, Master: w.master(), Renewals: w.Self.Renewals(), Use: w.Self.Heed(req)}
	if w.Watchdog != nil {
		rep.Watchdog, rep.WatchdogTime = w.Watchdog()
	}
	if w.Domains != nil {
		rep.Domains, rep.DomainsSeq = w.Domains(req.Domains)
	}
	return rep, nil
}

// Inspect reads the lease and the lockspace.
func (w *Witness) Inspect(ctx context.Context, _ struct{}) (InspectReply, error) {
	master := w.master()
	hosts, err := w.Spaces.Hosts(ctx, master)
	if err != nil {
		return InspectReply{}, fmt.Errorf("asking the keeper about the lockspace: %w", err)
	}
	rep := InspectReply{Master: master, Hosts: hosts}
	if rep.Lease, err = w.Lease.Inspect(ctx); err != nil {
		rep.LeaseError = err.Error()
	}
	return rep, nil
}

// ErrNoProof says that this host's mirror has no proof about a record.
var ErrNoProof = errors.New("no proof is recorded here; try again when the mirror has it")

// Free frees a record on disk if this host's mirror has a proof about exactly this generation, and the record is as the
// proof says.
func (w *Witness) Free(ctx context.Context, req FreeRequest) (FreeReply, error) {
	if req.HostID == w.HostID {
		return FreeReply{}, fmt.Errorf("host id %d is this host, which is alive", req.HostID)
	}
	p, ok := w.awaitProof(ctx, req)
	if !ok && plant.On(plant.FreeNoProof) { // planted: whoever asks will know
		rec, err := w.Spaces.ReadHost(ctx, req.Lockspace, req.HostID)
		return FreeReply{Verdict: VerdictFree}, errors.Join(err, w.Spaces.FreeRecord(ctx, req.Lockspace, rec))
	}
	if !ok {
		return FreeReply{}, fmt.Errorf("host id %d generation %d in lockspace %s: %w", req.HostID, req.Generation, req.Lockspace, ErrNoProof)
	}
	rec, err := w.Spaces.ReadHost(ctx, req.Lockspace, req.HostID)
	if err != nil {
		return FreeReply{}, err
	}
	v := Judge(p, req.Lockspace, w.master(), rec)
	if v == VerdictLate && !req.Late {
		v = VerdictVoid // the second change: that is no late write, somebody renews
	}
	if v != VerdictFree && v != VerdictLate {
		return FreeReply{Verdict: v}, nil
	}
	err = w.Spaces.FreeRecord(ctx, req.Lockspace, rec)
	if errors.Is(err, leases.ErrChanged) {
		return FreeReply{Verdict: VerdictVoid}, nil
	}
	return FreeReply{Verdict: v}, err
}

// Sight reads the records of hosts in all lockspaces at the same time; one that hangs does not hold up the others' answers
// for longer than the caller waits.
func (w *Witness) Sight(ctx context.Context, req SightRequest) (SightReply, error) {
	names := w.Spaces.Joined()
	found := make(chan []SpaceSight, len(names))
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() { found <- w.sightIn(ctx, name, req) })
	}
	wg.Wait()
	close(found)
	var rep SightReply
	for list := range found {
		rep.Seen = append(rep.Seen, list...)
	}
	return rep, nil
}

// sightTime is the part of a caller's patience that is given to the disks.
const sightTime = 3

// sightIn is what can be said of one lockspace.
func (w *Witness) sightIn(ctx context.Context, name string, req SightRequest) []SpaceSight {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)*sightTime/4)
		defer cancel()
	}
	hosts, err := w.Spaces.Hosts(ctx, name)
	if err != nil {
		return nil
	}
	var out []SpaceSight
	if req.Unused {
		out = w.unused(ctx, name, req, hosts)
	}
	for _, h := range hosts {
		if !slices.Contains(req.HostIDs, h.HostID) {
			continue
		}
		s := SpaceSight{Lockspace: name, State: h.State, Looked: h.Looked, Silent: h.Silent, DeadIn: h.DeadIn,
			Record: leases.HostRecord{HostID: h.HostID, Generation: h.Generation, Timestamp: h.Timestamp, Name: h.Name, IOTimeout: h.IOTimeout}}
		if req.Disk {
			rec, err := w.Spaces.ReadHost(ctx, name, h.HostID)
			if err != nil {
				continue
			}
			s.reread(rec)
		}
		out = append(out, s)
	}
	return out
}

// reread takes over a record as it is on the disk now. What the keeper judged was another one if it has changed since: a host that
// was dead at the keeper's last look and has come back lives.
func (s *SpaceSight) reread(rec leases.HostRecord) {
	if rec.Generation != s.Record.Generation || rec.Timestamp != s.Record.Timestamp {
		s.State, s.Silent, s.DeadIn = leases.HostLive, 0, 0
		if rec.Timestamp == 0 {
			s.State = leases.HostFree
		}
	}
	s.Record, s.Looked = rec, 0
}

// unused are the ids that the keeper knows nothing of: nobody has joined the lockspace under them, or only just now.
func (w *Witness) unused(ctx context.Context, name string, req SightRequest, hosts []leases.HostStatus) []SpaceSight {
	var out []SpaceSight
	for _, id := range req.HostIDs {
		if slices.ContainsFunc(hosts, func(h leases.HostStatus) bool { return h.HostID == id }) {
			continue
		}
		rec, err := w.Spaces.ReadHost(ctx, name, id)
		if err != nil {
			continue
		}
		s := SpaceSight{Lockspace: name, State: leases.HostUnknown, Record: rec}
		if rec.Timestamp == 0 {
			s.State = leases.HostFree
		}
		out = append(out, s)
	}
	return out
}

// proofWait bounds how long a free waits for a proof that the leader has just committed.
const proofWait = 500 * time.Millisecond

// awaitProof waits until this host's mirror has the proof; it may be a commit behind the leader.
func (w *Witness) awaitProof(ctx context.Context, req FreeRequest) (fsm.Proof, bool) {
	ctx, cancel := context.WithTimeout(ctx, proofWait)
	defer cancel()
	for {
		if p, ok := w.Proofs.ProofOf(req.HostID, req.Lockspace, req.Generation); ok {
			return p, true
		}
		if pause(ctx, 5*time.Millisecond); ctx.Err() != nil {
			return fsm.Proof{}, false
		}
	}
}

// Handlers returns what the agent registers on its cluster port.
func (w *Witness) Handlers() map[string]spm.Handler {
	return map[string]spm.Handler{MethodPing: handle(w.Ping), MethodInspect: handle(w.Inspect), MethodFree: handle(w.Free),
		MethodSight: handle(w.Sight), MethodYield: handle(w.Yield)}
}

// handle decodes the request of fn.
func handle[In, Out any](fn func(context.Context, In) (Out, error)) spm.Handler {
	return func(ctx context.Context, _ string, body []byte) (any, error) {
		var in In
		if len(body) > 0 {
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, fmt.Errorf("decoding the request: %w", err)
			}
		}
		return fn(ctx, in)
	}
}
