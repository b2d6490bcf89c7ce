package api

import "time"

// Formats and allocation policies of a volume.
const (
	FormatRaw   = "raw"
	FormatQCOW2 = "qcow2"

	AllocationSparse       = "sparse"
	AllocationPreallocated = "preallocated"
)

// Volume is one layer of a disk.
type Volume struct {
	ID          string    `json:"id"`
	Image       string    `json:"image"`
	Domain      string    `json:"domain"` // UUID
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Size        int64     `json:"size"`      // what the guest sees
	Allocated   int64     `json:"allocated"` // what it takes on the domain
	Format      string    `json:"format"`
	Allocation  string    `json:"allocation"`
	Parent      string    `json:"parent,omitempty"` // volume id of the backing layer
	Legality    string    `json:"legality"`
	Type        string    `json:"type"` // leaf, internal or shared
	Slot        int       `json:"slot"` // metadata slot, which is also the lease slot
	Epoch       uint64    `json:"epoch"`
	Created     time.Time `json:"created,omitzero"`
}

// VolumeCreate asks for a new volume.
type VolumeCreate struct {
	Name        string `json:"name"`
	Size        int64  `json:"size"`
	Format      string `json:"format,omitempty"`     // default qcow2
	Allocation  string `json:"allocation,omitempty"` // default sparse for qcow2, preallocated for raw
	Domain      string `json:"domain,omitempty"`     // UUID or name; default the master domain
	Description string `json:"description,omitempty"`
	Image       string `json:"image,omitempty"`        // UUID; default a new one
	Parent      string `json:"parent,omitempty"`       // volume id of the backing layer
	InitialSize int64  `json:"initial_size,omitempty"` // bytes allocated at once for a sparse volume; 0 the default
}

// VolumeCreated is the answer to VolumeCreate.
type VolumeCreated struct {
	Volume
	Mirrored bool   `json:"mirrored"` // false: on disk, but Raft has not taken the entry yet
	Index    uint64 `json:"index"`    // Raft index of the mirror entry; 0 when not mirrored
}

// VolumeUpdate changes what people read of a volume. What is nil stays as it is.
type VolumeUpdate struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"` // empty: none any more
}

// VolumeUpdated is the answer to VolumeUpdate.
type VolumeUpdated struct {
	Volume
	Mirrored bool   `json:"mirrored"` // false: on disk, but Raft has not taken the entry yet
	Index    uint64 `json:"index"`    // Raft index of the mirror entry; 0 when not mirrored
}

// VolumeDeleted is the answer to a delete.
type VolumeDeleted struct {
	ID       string `json:"id"`
	Domain   string `json:"domain"`
	Name     string `json:"name"`
	Epoch    uint64 `json:"epoch"`
	Mirrored bool   `json:"mirrored"`
	Index    uint64 `json:"index"`
}
