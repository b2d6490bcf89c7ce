package attach

import (
	"context"
	"encoding/json"
	"errors"
)

// Process is a process that a lease is tied to.
type Process struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"` // a number that was given out again is another process
	// Device is the uuid of the device-mapper's device that it looks after: the lease is freed when that is frozen too.
	Device string `json:"device,omitempty"`
}

// Where says how a mapped volume is reached; one of the two is there.
type Where struct {
	URI    string `json:"uri,omitempty"`    // nbd+unix://, as QEMU's tools take it
	Socket string `json:"socket,omitempty"` // of the URI
	Path   string `json:"path,omitempty"`   // of a block device
}

// ErrNotMapped says that nothing is left of a mapping: it may be made anew.
var ErrNotMapped = errors.New("the volume is not mapped")

// ErrGone says that a mapping has ended by itself, or was ended.
var ErrGone = errors.New("the mapping has ended")

// ErrStillThere says that a mapping could not be ended: writes of it may still land, so the volume's lease stays.
var ErrStillThere = errors.New("what writes the volume has not ended; its lease is kept")

// Mapper makes volumes usable on this host.
type Mapper interface {
	// Kind is the word for it in records and answers.
	Kind() string
	// Prepare starts what is going to write, and keeps it from touching anything before Map. It ends by itself if the agent ends
	// before that.
	Prepare(ctx context.Context, v Volume, readOnly bool) (Prepared, error)
	// Find takes up a mapping of an earlier agent; ErrNotMapped if it is not there.
	Find(ctx context.Context, r Record) (Mapping, error)
	// Fits says why a volume cannot be mapped in this way; nil: it can.
	Fits(v Volume) error
	// End ends what a record names, if it is there, and returns when it can write no more. Clients may wait for it to be made
	// again.
	End(ctx context.Context, r Record) error
	// Fail is for a mapping that was ended and will not be made again: clients that wait get errors.
	Fail(ctx context.Context, r Record) error
	// Clear is End for good: nothing is left of the mapping.
	Clear(ctx context.Context, r Record) error
}

// Prepared is a mapping that does nothing yet.
type Prepared interface {
	// Process is what the lease is tied to.
	Process() Process
	// Map lets it go, under a lease that is held.
	Map(ctx context.Context, r MapRequest) (Mapping, error)
	// Cancel ends it, whether it was let go or not, and returns when it can write no more.
	Cancel(ctx context.Context) error
}

// MapRequest is a volume to be mapped.
type MapRequest struct {
	Volume         Volume
	ReadOnly       bool
	Held           Held
	ThresholdBytes int64 // free space below which the mapping tells
	HighBytes      int64 // end of the highest write known of
	// Again says that a mapping that had ended is made again, that nobody had the volume meanwhile, and that its clients may go on.
	Again bool
}

// Mapping is a mapped volume. It is safe for concurrent use and outlives the agent.
type Mapping interface {
	Where() Where
	Status(ctx context.Context) (Status, error)
	// Watch returns when something happened since the state numbered seq. ErrGone is the end of the mapping.
	Watch(ctx context.Context, seq uint64) (Status, error)
	// Grow makes the mapping end where the segments do. Segments that are older than its own change nothing.
	Grow(ctx context.Context, segs []Segment) (Status, error)
	// Demote says that nobody is going to write through the mapping any more; its lease is about to be for reading.
	Demote(ctx context.Context) error
	// Detach writes out what is under way, ends the mapping, and returns when nothing of it can land any more. ErrStillThere:
	// it may. Any other error is about data, and the mapping has ended.
	Detach(ctx context.Context) error
	// Close leaves the mapping alone.
	Close() error
}

// Status is what a mapping knows of itself.
type Status struct {
	Seq            uint64 // counts events
	SizeBytes      int64  // what clients see
	AllocatedBytes int64  // what has storage
	HighBytes      int64  // end of the highest write
	WantBytes      int64  // end of the furthest write that lay behind what was allocated
	Low            bool   // less than the threshold is free, and the volume may grow
	Waiting        int    // writes that wait for space
	Waited         uint64 // writes that had to wait for space, ever
	Denied         uint64 // those of them that were refused for lack of it
	GrowRate       int64  // bytes per second by which HighBytes rises
	Clients        int
	LeaseErrors    uint64 // writes refused because the right to write was gone
	DeviceErrors   uint64
	LastError      string
}

// Held is a volume's lease that is held for a process.
type Held struct {
	// Version grows by one at each change of hands.
	Version uint64
	// Guard is for the process, which has the shared page that it was started with.
	Guard json.RawMessage
}

// Leases takes volume leases for processes. A lease lasts as long as its process, whatever becomes of the agent.
type Leases interface {
	// Take takes a lease, and waits for nobody who has it: that is a *domain.VolumeHeldError.
	Take(ctx context.Context, at Place, p Process, shared bool) (Held, error)
	// Share turns a lease that is held for a process into one for reading; one that is so already stays so.
	Share(ctx context.Context, at Place, p Process) error
	// AwaitFree returns when this host does not hold the lease any more.
	AwaitFree(ctx context.Context, at Place) error
}

// Snapshotter makes new leaves.
type Snapshotter interface {
	// Snapshot makes a volume on a leaf that this host holds, and returns its id. The same key again gives the same volume.
	// ErrRefused: there is none.
	Snapshot(ctx context.Context, key, domain, leaf, name string) (string, error)
}

// ErrRefused says that a snapshot was not made.
var ErrRefused = errors.New("no snapshot was made")

// Extender makes volumes larger.
type Extender interface {
	// Extend returns when the SPM says that the volume has at least so many bytes. It may be asked again for the same.
	Extend(ctx context.Context, domain, volume string, size int64) error
}
