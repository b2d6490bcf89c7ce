package domain

// Values of Volume.Format.
const (
	FormatRaw   = "raw"
	FormatQcow2 = "qcow2"
)

// Values of Volume.Allocation.
const (
	Sparse       = "sparse"
	Preallocated = "preallocated"
)

// Values of Volume.Legality.
const (
	Legal   = "legal"
	Illegal = "illegal"
	Fake    = "fake"
)

// Values of Volume.VolType.
const (
	Leaf     = "leaf"
	Internal = "internal"
	Shared   = "shared"
)

// Values of Volume.State.
const (
	// StateOK is a volume whose tags and metadata could be read.
	StateOK = "ok"
	// StateUnreadable is a volume whose metadata slot could not be read or understood; Problem says why.
	StateUnreadable = "unreadable"
	// StateRemoving is a volume whose deletion is committed but whose space is not free yet.
	StateRemoving = "removing"
	// StateWiping is a volume that must be overwritten with zeroes before its space is free.
	StateWiping = "wiping"
	// StateInitializing is a volume that some SPM began to create; it does not exist for anybody yet.
	StateInitializing = "initializing"
)

// NilUUID stands for "no parent" on disk.
const NilUUID = "00000000-0000-0000-0000-000000000000"

// Volume is one volume of a domain: one layer of an image's chain. Volumes that this package hands out are copies.
type Volume struct {
	ID             string // name of the LV
	Image          string // from the LV's tag
	Name           string // DiskAlias of the description, or the description itself where it is not JSON
	Description    string // DiskDescription of the description
	Format         string // FormatRaw, FormatQcow2
	Allocation     string // Sparse, Preallocated
	Parent         string // empty without one; from the metadata, which wins over the tag
	ParentTag      string // what the LV's tag says of the parent; may be stale after a live merge
	Legality       string // Legal, Illegal, Fake
	VolType        string // Leaf, Internal, Shared
	DiskType       string // DATA, OVFS, ...
	Capacity       int64  // virtual size in bytes
	AllocatedBytes int64  // size of the LV in bytes
	CreatedUnix    int64  // seconds since 1970
	Slot           int    // metadata and lease slot, 0 when the LV has no usable MD_ tag
	Generation     int    // GEN
	Sequence       uint32 // SEQ
	State          string // StateOK, ...
	Problem        string // why the state is StateUnreadable
	Epoch          uint64 // lease version under which this process changed it last; 0 when it only read it
	Seq            uint64 // number of that change within the epoch

	cause error // behind Problem
}

// VolumeSpec is what a new volume shall be.
type VolumeSpec struct {
	ID          string // UUID chosen by the caller; the same id with the same parameters gives the same volume
	Image       string // UUID of the image
	Name        string // goes into the description; unique among images, may be empty
	Description string
	Format      string // FormatRaw or FormatQcow2
	Allocation  string // empty: Preallocated for raw, Sparse for qcow2
	Parent      string // UUID of the volume it is based on; qcow2 only
	DiskType    string // empty: DATA
	Capacity    int64  // virtual size in bytes, rounded up to 4 KiB
	InitialSize int64  // bytes to allocate at first for qcow2; 0: the rule of the format
	Sequence    uint32 // position in the order of creation inside the image
	Illegal     bool   // create as illegal: the content is still to come
	LiveOn      string // of a snapshot: the leaf may be held by this one, as VolumeHeldError names it
}

// VolumeRemoved is a finished deletion and its place in the order of changes.
type VolumeRemoved struct {
	ID    string
	Epoch uint64
	Seq   uint64
}
