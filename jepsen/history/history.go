// Package history is what a run of the failure injection suite writes down, and how. It judges nothing.
package history

import (
	"encoding/json"
	"time"
)

// Outcome is what a client knows of an operation.
type Outcome string

// An operation is done, surely not done, or nobody can tell.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Unknown Outcome = "unknown"
)

// Forever is the return of an operation whose outcome is unknown.
const Forever = time.Duration(1<<63 - 1)

// The kinds of operations.
const (
	VolumeCreate   = "volume.create"
	VolumeDelete   = "volume.delete"
	VolumeList     = "volume.list"
	VolumeDescribe = "volume.describe" // writes a description
	VolumeShow     = "volume.show"     // reads it
	LeaseAcquire   = "lease.acquire"
	LeaseRelease   = "lease.release"
	LeaseShow      = "lease.show"
	SPMMove        = "spm.move"
	HostLeave      = "host.leave"
	HostJoin       = "host.join"
	RaftTransfer   = "raft.transfer"
	VolumeExtend   = "volume.extend"
	GuestAttach    = "guest.attach"
	GuestDetach    = "guest.detach"
	GuestWrite     = "guest.write"
	GuestFlush     = "guest.flush"
	GuestRead      = "guest.read"
)

// Op is one operation of one client.
type Op struct {
	Client  int             `json:"client"`         // at most one operation of a client is under way
	Kind    string          `json:"kind"`           // see above
	Key     string          `json:"key,omitempty"`  // what it is about: volume name, lease id, host
	Host    string          `json:"host,omitempty"` // the agent that was asked
	Input   json.RawMessage `json:"input,omitempty"`
	Output  json.RawMessage `json:"output,omitempty"`
	Call    time.Duration   `json:"call"`
	Return  time.Duration   `json:"return"` // Forever: unknown
	Outcome Outcome         `json:"outcome"`
	Code    string          `json:"code,omitempty"` // of the problem document
	Error   string          `json:"error,omitempty"`
	Epoch   uint64          `json:"epoch,omitempty"` // as answered
	Index   uint64          `json:"index,omitempty"` // as answered
	Stale   bool            `json:"stale,omitempty"` // a read from a mirror, not the leader's word
}

// Restart is no fault of the harness's: an agent has ended, told or not, and a new one begins.
const Restart = "restart"

// Fault is one fault from its injection to its healing.
type Fault struct {
	Kind    string        `json:"kind"`              // as in the catalogue of nemeses
	Targets []string      `json:"targets,omitempty"` // hosts, or what it hit
	Detail  string        `json:"detail,omitempty"`
	Begin   time.Duration `json:"begin"`
	End     time.Duration `json:"end"`             // healed; 0 while it lasts
	Error   string        `json:"error,omitempty"` // it could not be injected or healed
}

// Sample is what one agent answered when it was asked how the pool is.
type Sample struct {
	At       time.Duration `json:"at"`
	Host     string        `json:"host"`
	Answered bool          `json:"answered"`
	SPM      string        `json:"spm,omitempty"`
	Epoch    uint64        `json:"epoch,omitempty"`
	SPMState string        `json:"spm_state,omitempty"`
	Leader   string        `json:"leader,omitempty"`
	Term     uint64        `json:"term,omitempty"`
	// Growth is what the host's metrics say of the volumes that are attached there; nil: it was not asked for.
	Growth *Growth `json:"growth,omitempty"`
}

// Growth counts, since the agent began, how attached volumes grew, and how often and for how long writes waited for that.
type Growth struct {
	Grown  int           `json:"grown"`
	Took   time.Duration `json:"took"`
	Pauses int           `json:"pauses"`
	Paused time.Duration `json:"paused"`
}

// Mutation is what a request to the LUN's server wants.
type Mutation string

// The mutations, and the flush that orders them.
const (
	Write Mutation = "write"
	Zero  Mutation = "zero"
	Trim  Mutation = "trim"
	Flush Mutation = "flush"
	// Lost is not a request: what the LUN had in its cache and nobody flushed went back to Data when power failed.
	Lost Mutation = "lost"
)

// Entry is one mutation of the LUN.
type Entry struct {
	Seq    int           `json:"seq"`
	Host   string        `json:"host"`
	Kind   Mutation      `json:"kind"`
	Off    int64         `json:"off"`
	Len    int64         `json:"len"`
	Sum    uint64        `json:"sum,omitempty"`    // FNV-1a of the bytes
	Data   []byte        `json:"data,omitempty"`   // of writes of at most 4 KiB
	Packed []byte        `json:"packed,omitempty"` // of longer ones at the LUN's beginning, where its metadata are: deflated
	Came   time.Duration `json:"came"`             // the server has the request
	Landed time.Duration `json:"landed"`           // the bytes changed; 0: never
	Told   time.Duration `json:"told"`             // the reply was sent; 0: never
	Torn   int64         `json:"torn,omitempty"`   // only so many bytes of it landed
	Failed bool          `json:"failed,omitempty"` // the reply was an error; the bytes may have landed all the same
}

// Verdict is what a checker says.
type Verdict struct {
	Checker string   `json:"checker"`
	OK      bool     `json:"ok"`
	Summary string   `json:"summary"`          // one line, with the numbers
	Faults  []string `json:"faults,omitempty"` // what it found, one line each
}

// Run is the first page of a folder.
type Run struct {
	Seed    uint64        `json:"seed"`
	Version string        `json:"version"`
	Began   time.Time     `json:"began"`
	Lasted  time.Duration `json:"lasted"`
	Hosts   []string      `json:"hosts"`
	Profile string        `json:"profile"`
	Nemeses []string      `json:"nemeses"`
	Planted string        `json:"planted,omitempty"` // the mistake that the program was told to make
	Domain  string        `json:"domain"`            // id of the master domain
	Bounds  Bounds        `json:"bounds"`
	// Fencing says that the hosts have power switches, and the pool the devices for them.
	Fencing  bool      `json:"fencing,omitempty"`
	Verdicts []Verdict `json:"verdicts,omitempty"`
	// Least is how many operations have to succeed for the run to count; 0: one in two seconds.
	Least int `json:"least,omitempty"`
}

// Bounds are the pool's times.
type Bounds struct {
	IOTimeout time.Duration `json:"io_timeout"`
	Watchdog  time.Duration `json:"watchdog"`
	// Fence is after how long a host is switched off that does not answer but renews its lease; 0: never, or not in the time of a fault.
	Fence time.Duration `json:"fence,omitempty"`
}
