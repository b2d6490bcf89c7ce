package api

// VolumeExtend asks for a volume that is larger on the domain; what the guest sees of it stays the same. A volume that is as
// large already is no error.
type VolumeExtend struct {
	Size int64 `json:"size"` // bytes that the volume is to have at least
	// Paused says that a guest stands still until then, SecondsToFull how soon one will; 0: nobody knows. They decide who goes
	// first when space is short.
	Paused        bool    `json:"paused,omitempty"`
	SecondsToFull float64 `json:"seconds_to_full,omitempty"`
	// WaitSeconds is how long to wait for space when there is none; 0 answers out_of_space at once. The request is kept either way.
	WaitSeconds int `json:"wait_seconds,omitempty"`
	// ThroughStorage asks by the storage mailbox alone, to see that it works.
	ThroughStorage bool `json:"through_storage,omitempty"`
}

// VolumeExtended is the answer to VolumeExtend.
type VolumeExtended struct {
	Volume
	Mirrored bool   `json:"mirrored"` // false: on disk, but this host's mirror does not show it yet
	Index    uint64 `json:"index"`    // Raft index at which the mirror shows it; 0 when not mirrored
}

// DomainSet changes settings of a domain. What is nil stays as it is.
type DomainSet struct {
	// WarnPercent is the share of free space, of the size, below which there is a warning; 0: never.
	WarnPercent *int `json:"warn_percent,omitempty"`
	// CriticalFree is the free space, in bytes, below which no new volumes are made; 0: never refused.
	CriticalFree *int64 `json:"critical_free,omitempty"`
}

// States of a slot of the mailbox.
const (
	SlotEmpty      = "empty"
	SlotClean      = "clean"
	SlotMessage    = "message"
	SlotUnreadable = "unreadable"
)

// Mailbox is the storage mailbox as it is on the master domain.
type Mailbox struct {
	Domain string        `json:"domain"`
	Event  string        `json:"event,omitempty"` // UUID of the last ring; empty: nobody ever rang
	Hosts  []MailboxHost `json:"hosts"`           // with slots in use or a damaged page
}

// MailboxHost is what one host and the SPM say to each other.
type MailboxHost struct {
	HostID int           `json:"host_id"`
	Host   string        `json:"host,omitempty"` // empty: no member has this id
	Error  string        `json:"error,omitempty"`
	Slots  []MailboxSlot `json:"slots"`
}

// MailboxSlot is one slot of both pages.
type MailboxSlot struct {
	Slot   int         `json:"slot"`
	Host   MailboxSide `json:"host_says"`
	SPM    MailboxSide `json:"spm_says"`
	Phase  string      `json:"phase"` // where in the hand-shake the two are
	Volume string      `json:"volume,omitempty"`
	Domain string      `json:"domain,omitempty"`
}

// MailboxSide is what one of the two says in a slot.
type MailboxSide struct {
	State string `json:"state"`
	Size  int64  `json:"size,omitempty"` // bytes asked for, or granted; 0 in the SPM's message: not done
	Error string `json:"error,omitempty"`
}
