package nemesis

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
)

// Part is a part of a host's processes.
type Part string

// The parts.
const (
	Agent  Part = "agent"
	Keeper Part = "keeper"
	Both   Part = "both"
	// Writers are the agent and the exports of attached volumes, Machine is all of these. Exports outlive agent and keeper.
	Writers Part = "writers"
	Machine Part = "machine"
)

// Traffic is a part of what hosts send each other.
type Traffic string

// The kinds of traffic. Raft's port carries calls between hosts too.
const (
	Everything Traffic = "everything"
	Gossip     Traffic = "gossip"
	Raft       Traffic = "raft"
)

// Spoil is what is damaged in a host's data directory.
type Spoil string

// What can be damaged.
const (
	RaftLog      Spoil = "log"
	RaftSnapshot Spoil = "snapshot"
)

// ErrRefused is returned by Start for a host whose agent ends instead of answering.
var ErrRefused = errors.New("the agent refuses to run")

// ErrNothingThere is returned by Damage for a host that has no snapshot, or no log, to spoil.
var ErrNothingThere = errors.New("there is nothing to damage")

// Cluster is what the faults need of the pool that they hit. Methods without a context may take a while; the Executor does not
// wait for them for ever. All of them do nothing, without an error, where there is nothing to do.
type Cluster interface {
	Hosts() []string
	Client(host string) *client.Client
	Processes
	Network
	Storage
	Disks
	Clocks
	Switches
}

// Processes are the agents and keepers.
type Processes interface {
	// Kill ends processes at once, and returns when they have exited.
	Kill(host string, p Part) error
	// PowerOff ends all of a host at the same moment, and its connections to the LUN with it.
	PowerOff(host string) error
	// Start starts what does not run. It does not wait until the host is well.
	// Start gives ErrRefused when the agent ends at once, as it must when its files are damaged.
	Start(ctx context.Context, host string) error
	Pause(host string, p Part) error
	Resume(host string, p Part) error
}

// Network is what hosts hear each other through. The way to the LUN is another.
type Network interface {
	// Block drops what one host sends to another, not what comes back.
	Block(from, to string, t Traffic) error
	Unplug(host string) error
	Plug(host string) error
	// MendNetwork ends every Block and Unplug.
	MendNetwork() error
}

// Storage is the LUN and the cables to it.
type Storage interface {
	UnplugStorage(host string) error
	PlugStorage(host string) error
	LUN() LUN
}

// LUN is the LUN's server.
type LUN interface {
	Path(host string) Path
	// Gone takes the LUN away for all, or gives it back.
	Gone(gone bool)
}

// Path is one host's way through the LUN's server.
type Path interface {
	Cut()
	Join()
	// Hang keeps requests without an answer until Release, which lets them land, late, or forgets them.
	Hang()
	Release(land bool)
	// Stick lets one request in n hang until Release.
	Stick(n int)
	// Slow delays each request; the delay grows from one value to another over some time.
	Slow(from, to, over time.Duration)
	Fast()
	// FailReads fails one read in n with EIO; FailWrites one write or flush in n, of which some land all the same. 0 ends that.
	FailReads(n int)
	FailWrites(n int)
	// TearNext lets only a part of the next write land, and cuts the path in the same moment. The channel is closed then.
	TearNext() <-chan struct{}
	// Heal ends all of the above.
	Heal()
}

// Disks are the local disks with the data directories.
type Disks interface {
	FillDisk(host string) error
	FreeDisk(host string) error
	FreezeDisk(host string) error
	ThawDisk(host string) error
	// Damage flips bits in a data directory; the host is off. ErrNothingThere says that there is no such file.
	Damage(host string, what Spoil, seed int64) error
	// Undamage puts back the flipped bytes that are still as Damage left them; the host is off. What the host has written over
	// meanwhile stays: a Raft log must not go back in time.
	Undamage(host string) error
}

// Clocks are what the hosts take for the time.
type Clocks interface {
	// SetClock moves a host's wall clock, and lets all its clocks run faster by so many parts in a million.
	SetClock(host string, offset time.Duration, ppm int64) error
}

// Switches are the hosts' power switches.
type Switches interface {
	// SetSwitch says what ails the switch of a host, one of history.SwitchDead and so on; empty: nothing does.
	SetSwitch(host, ails string) error
}
