package api

import "time"

// VolumeAttach asks a host to make a volume and its chain usable there.
type VolumeAttach struct {
	ReadOnly bool `json:"read_only,omitempty"`
	// Mapper is how: dm or nbd; empty: dm where the host and the LUNs allow it, else nbd.
	Mapper string `json:"mapper,omitempty"`
	// QMP is the socket of the QEMU that is to use the volume, on that host; it need not be there yet, and can be given later by
	// attaching once more. QMPNode is QEMU's node on the volume's own device; empty: the one in BlockDev.
	QMP     string `json:"qmp,omitempty"`
	QMPNode string `json:"qmp_node,omitempty"`
}

// VolumeDetach asks a host to undo it.
type VolumeDetach struct {
	Force bool `json:"force,omitempty"` // although somebody is connected
}

// VolumeSnapshot asks for a new leaf under the guest that writes an attached volume, which goes over to it.
type VolumeSnapshot struct {
	Name string `json:"name,omitempty"` // of the new volume; empty: that of the old one
}

// VolumeDetached is the answer to a detach.
type VolumeDetached struct {
	Volume string `json:"volume"`
	Domain string `json:"domain"`
	Host   string `json:"host"`
}

// States of an attachment.
const (
	AttachmentAttaching = "attaching"
	AttachmentAttached  = "attached"
	AttachmentDetaching = "detaching"
	AttachmentBroken    = "broken" // somebody else had the volume meanwhile: it is to be detached
)

// Attachment is a volume that is attached on a host.
type Attachment struct {
	Volume   string    `json:"volume"`
	Domain   string    `json:"domain"`
	Name     string    `json:"name"`
	Host     string    `json:"host"`
	ReadOnly bool      `json:"read_only"`
	State    string    `json:"state"`
	Problem  string    `json:"problem,omitempty"` // why it cannot be used now
	Mapper   string    `json:"mapper"`            // dm or nbd
	URI      string    `json:"uri,omitempty"`     // of the volume's own bytes: of a qcow2 volume the container
	Path     string    `json:"path,omitempty"`    // of a block device, where that is the way
	Format   string    `json:"format"`            // of these bytes
	Since    time.Time `json:"since"`
	// BlockDev are the arguments for QEMU's -blockdev, in this order: the base first, each naming the one before as its backing node. The
	// last one is the disk.
	BlockDev []map[string]any `json:"blockdev,omitempty"`
	// Chain is the volume and what it is based on, the top first; all but the top are read-only.
	Chain []AttachedLayer `json:"chain"`
	// Size is what clients of the URI see, Allocated what of it has storage, Written the end of the highest write; 0 while the host
	// has not heard, and for a volume that does not grow.
	Size      int64 `json:"size,omitempty"`
	Allocated int64 `json:"allocated,omitempty"`
	Written   int64 `json:"written,omitempty"`
	// WritesWaited are the writes that ever had to wait for space since the volume was mapped, WritesRefused those of them that did not
	// get it in time: a guest may have been paused by them. Both are nothing where the volume always grew in time.
	WritesWaited  uint64 `json:"writes_waited,omitempty"`
	WritesRefused uint64 `json:"writes_refused,omitempty"`
	// WaitingSince is since when the volume waits for space, and WaitingFor why it does not have it.
	WaitingSince time.Time `json:"waiting_since,omitzero"`
	WaitingFor   string    `json:"waiting_for,omitempty"`
	// QMP and QMPNode are as they were given. QMPConnected says that QEMU is watched now, QMPProblem why it is not.
	QMP          string `json:"qmp,omitempty"`
	QMPNode      string `json:"qmp_node,omitempty"`
	QMPConnected bool   `json:"qmp_connected,omitempty"`
	QMPProblem   string `json:"qmp_problem,omitempty"`
}

// AttachedLayer is one volume of an attached chain.
type AttachedLayer struct {
	Volume   string `json:"volume"`
	Format   string `json:"format"`
	ReadOnly bool   `json:"read_only"`
	URI      string `json:"uri,omitempty"`
	Path     string `json:"path,omitempty"`
}

// Attachments is what is attached on the hosts that answered.
type Attachments struct {
	Attachments []Attachment `json:"attachments"`
	// Silent are the hosts that did not answer in time: what is attached there is not known.
	Silent []string `json:"silent,omitempty"`
}
