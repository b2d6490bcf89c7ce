package manager

import "time"

// Codes of a DomainReport. Everything but DomainOK is a reason why the host cannot work with the domain.
const (
	DomainOK          = "ok"
	DomainUnread      = "unread"      // not looked at yet; says nothing either way
	DomainUnreachable = "unreachable" // a LUN cannot be opened or read
	DomainHung        = "hung"        // a read has not come back in time, or at all
	DomainDamaged     = "damaged"     // the LUNs answer, but what lies on them is not this domain, or cannot be understood
	DomainUnjoined    = "unjoined"    // readable, but the host's id is not held in the lockspace
)

// DomainReport is what one host's monitor says of one domain. It is part of the answer to a ping; times are as of that answer.
type DomainReport struct {
	Domain string `json:"domain"` // UUID
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"` // why, for people
	// Status is what the host's mirror said of the domain when the look began.
	Status string `json:"status,omitempty"`
	// Looks counts the finished checks of this monitor: the leader tells a new look from an old one by it.
	Looks uint64 `json:"looks"`
	// Delay is how long the last read of 4 KiB took, on the slowest LUN.
	Delay time.Duration `json:"delay_ns"`
	// Age is the time since the last check ended, Running how long the one under way has been, if one is.
	Age     time.Duration `json:"age_ns"`
	Running time.Duration `json:"running_ns,omitempty"`
	// Acquired says that the host's id is held in the lockspace; Late that half the life of the lease has passed without a renewal.
	Acquired bool `json:"acquired"`
	Late     bool `json:"late,omitempty"`
	// Open says that the host has the domain in use: its LUNs are open for work and its lockspace is joined, or being joined.
	Open bool `json:"open,omitempty"`
	// Uses names what on this host keeps it from letting go of the domain: attached volumes and leases that are held.
	Uses []string `json:"uses,omitempty"`

	Version int   `json:"version,omitempty"`
	Size    int64 `json:"size,omitempty"`
	Free    int64 `json:"free,omitempty"`
	// MetadataUsed and MetadataSize are the length of the volume group's text and the longest that fits.
	MetadataUsed int64 `json:"metadata_used,omitempty"`
	MetadataSize int64 `json:"metadata_size,omitempty"`
}

// Valid says that the host can work with the domain.
func (r DomainReport) Valid() bool { return r.Code == DomainOK }

// PingRequest is a ping.
type PingRequest struct {
	// Domains is the PingReply.DomainsSeq that the leader has; the reports are sent again when they have changed since.
	Domains uint64 `json:"domains,omitempty"`

	// Want is what is wanted of the host, and Since the time of that wish; Index is how new the leader's mirror is.
	Want  string `json:"want,omitempty"`
	Since int64  `json:"since,omitempty"`
	Index uint64 `json:"index,omitempty"`
}
