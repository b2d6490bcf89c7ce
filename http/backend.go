package httpapi

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// Backend is what the API stands on. A nil role answers not_member, so an agent that has not been initialised sets
// only Status and Setup.
type Backend struct {
	Mirror  Mirror
	Status  Status
	Hosts   Hosts
	Power   Power
	Fencing Fencing
	Domains Domains
	Masters Masters
	Volumes Volumes
	// Attachments works on the host that is asked or named.
	Attachments Attachments
	Leases      Leases
	Mailbox     Mailbox
	SPM         SPM
	Events      Events
	Operator    Operator
	Tokens      Tokens
	Setup       Setup
	Forwarder   Forwarder
}

// Mark says how new an answer from the mirror is.
type Mark struct {
	// Index is the last Raft index applied to this host's mirror.
	Index uint64
	// Age is how long ago this host last heard from the leader; 0 on the leader.
	Age time.Duration
}

// Mirror brings the local copy up to what a reader asked for, before the roles below read it.
type Mirror interface {
	// Sync returns once the mirror's index is greater than after. With consistent it first makes sure of being the
	// leader and of having applied everything committed. An error that wraps ctx.Err() while it waits for after is
	// not shown to the caller: the list as it is then is.
	Sync(ctx context.Context, consistent bool, after uint64) (Mark, error)
}

// Status answers for the whole pool and for this process. Both work before the host is a member.
type Status interface {
	Status(ctx context.Context) (api.Status, error)
	Health(ctx context.Context) api.Health
}

// Hosts lists the hosts of the mirror, and takes a person's word about one.
type Hosts interface {
	Hosts(ctx context.Context) ([]api.Host, error)
	// ConfirmRebooted records the word of the person called by that a host writes nothing any more, and frees its records
	// in every lockspace. It runs on the leader.
	ConfirmRebooted(ctx context.Context, name string, req api.HostConfirm, by string) (api.HostConfirmed, error)
	// RemoveHost ends the membership of a host that is dead. It runs on the leader.
	RemoveHost(ctx context.Context, name string, req api.HostRemove, by string) (api.HostRemoved, error)
	// SetHost changes settings, at least one of which is given. It runs on the leader, as do the next two.
	SetHost(ctx context.Context, name string, req api.HostSet, by string) (api.Host, error)
	// MaintainHost wants a host out of use and waits, for as long as the request says, until it is. The host that is returned
	// says how far it got and what it waits for.
	MaintainHost(ctx context.Context, name string, req api.HostMaintain, by string) (api.Host, error)
	// ActivateHost takes that back, and waits until the host is up.
	ActivateHost(ctx context.Context, name string, req api.HostActivate, by string) (api.Host, error)
}

// Domains lists, makes and checks storage domains.
type Domains interface {
	Domains(ctx context.Context) ([]api.Domain, error)
	CreateDomain(ctx context.Context, req api.DomainCreate) (api.DomainCreated, error)
	// ExtendDomain adds a LUN to a domain.
	ExtendDomain(ctx context.Context, idOrName string, req api.DomainExtend) (api.DomainExtended, error)
	// SetDomain changes settings, at least one of which is given. It runs on the SPM, which is who minds them.
	SetDomain(ctx context.Context, id string, req api.DomainSet) (api.Domain, error)
	// ActivateDomain and DeactivateDomain do what the person called by wants and return when it is so, or with an error that says what
	// it waits for. They run on the leader.
	ActivateDomain(ctx context.Context, id string, req api.DomainWish, by string) (api.Domain, error)
	DeactivateDomain(ctx context.Context, id string, req api.DomainWish, by string) (api.Domain, error)
	// CheckDomain reads the domain's disks; it changes nothing and runs on the host that was asked.
	CheckDomain(ctx context.Context, id string) (api.Check, error)
}

// VolumeFilter narrows a list; empty fields match everything.
type VolumeFilter struct {
	Domain string // UUID or name
	Image  string // UUID
	Name   string
}

// Volumes lists volumes from the mirror and changes them as SPM.
type Volumes interface {
	Volumes(ctx context.Context, f VolumeFilter) ([]api.Volume, error)
	// Volume finds one by UUID or by name; a name that fits several is an error with CodeConflict.
	Volume(ctx context.Context, idOrName string) (api.Volume, error)
	// CreateVolume makes a volume. The same key with the same request gives the same volume, with another request
	// an error with CodeConflict. key is never empty.
	CreateVolume(ctx context.Context, req api.VolumeCreate, key string) (api.VolumeCreated, error)
	// UpdateVolume changes name or description; at least one of them is given.
	UpdateVolume(ctx context.Context, idOrName string, req api.VolumeUpdate) (api.VolumeUpdated, error)
	DeleteVolume(ctx context.Context, idOrName string) (api.VolumeDeleted, error)
	// SnapshotImage makes a new leaf on that of an image, found by UUID or by the name of a volume of it. key is as for
	// CreateVolume.
	SnapshotImage(ctx context.Context, idOrName string, req api.ImageSnapshot, key string) (api.VolumeCreated, error)
	// ExtendVolume runs on the host that was asked, over the network or through the storage. One that finds no space is an error
	// with CodeOutOfSpace.
	ExtendVolume(ctx context.Context, idOrName string, req api.VolumeExtend) (api.VolumeExtended, error)
}

// SPM shows and moves the role. The three changes run on the leader and return when the new state is reached.
type SPM interface {
	SPM(ctx context.Context) (api.SPM, error)
	MoveSPM(ctx context.Context, req api.SPMMove, by string) (api.SPM, error)
	StopSPM(ctx context.Context, req api.SPMStop, by string) (api.SPM, error)
	StartSPM(ctx context.Context, req api.SPMStart, by string) (api.SPM, error)
}

// Operator shows and steers Raft.
type Operator interface {
	RaftPeers(ctx context.Context) ([]api.RaftPeer, error)
	// TransferLeadership runs on the leader and returns the peers once another one leads.
	TransferLeadership(ctx context.Context, req api.RaftTransfer) ([]api.RaftPeer, error)
}

// Tokens gives out and takes back tokens.
type Tokens interface {
	Tokens(ctx context.Context) ([]api.Token, error)
	CreateToken(ctx context.Context, req api.TokenCreate) (api.TokenCreated, error)
	RevokeToken(ctx context.Context, id string) error
}

// Setup makes this host a member of a cluster, or no longer one. It always runs on the host that was asked.
type Setup interface {
	Init(ctx context.Context, req api.Init) (api.Member, error)
	Join(ctx context.Context, req api.Join) (api.Member, error)
	Leave(ctx context.Context, req api.Leave) (api.Member, error)
}
