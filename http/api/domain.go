package api

import "time"

// Domain is a storage domain.
type Domain struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Type       string   `json:"type"`   // block or file
	Role       string   `json:"role"`   // master or regular
	Status     string   `json:"status"` // one of the Domain constants
	Version    int      `json:"version"`
	Size       int64    `json:"size"`
	Free       int64    `json:"free"`
	ExtentSize int64    `json:"extent_size"`
	SectorSize int      `json:"sector_size"`
	LUNs       []string `json:"luns"`
	Volumes    int      `json:"volumes"`
	Epoch      uint64   `json:"epoch"`
	// Waiting is how many extensions wait for space, Needed how many bytes they need together.
	Waiting int   `json:"waiting"`
	Needed  int64 `json:"needed"`
	// WarnPercent and CriticalFree are the settings of DomainSet as they hold.
	WarnPercent  int   `json:"warn_percent"`
	CriticalFree int64 `json:"critical_free"`

	// Reason says why the domain is what it is, or which hosts cannot reach it and what is wrong there. Since is when the status last
	// changed, Deadline when something follows from the trouble if it lasts, FailingHosts who answers and cannot reach the domain now.
	Reason       string    `json:"reason,omitempty"`
	Since        time.Time `json:"since,omitzero"`
	Deadline     time.Time `json:"deadline,omitzero"`
	FailingHosts []string  `json:"failing_hosts,omitempty"`
}

// Statuses of a domain.
const (
	DomainActive      = "active"
	DomainInactive    = "inactive" // no host that is up can reach it
	DomainUnknown     = "unknown"  // no host that is up reports on it
	DomainPreparing   = "preparing_maintenance"
	DomainMaintenance = "maintenance"
	DomainActivating  = "activating"
)

// DomainWish asks for a domain to be taken out of use, or back into it.
type DomainWish struct {
	Reason string `json:"reason,omitempty"`
}

// DomainCreate asks for a new domain. The first one becomes the pool's master.
type DomainCreate struct {
	Name    string   `json:"name"`
	Devices []string `json:"devices"` // paths or nbd:// URIs, all in the agents' allow-list
	// Force names what may be destroyed, exactly as the refusal named it; empty refuses devices that hold anything.
	Force string `json:"force,omitempty"`
}

// DomainCreated is the answer to DomainCreate.
type DomainCreated struct {
	Domain
	Mirrored bool   `json:"mirrored"`
	Index    uint64 `json:"index"`
}

// DomainExtend asks for a LUN to be made part of a domain.
type DomainExtend struct {
	LUN string `json:"lun"` // path or nbd:// URI, in the agents' allow-list
	// Force names what may be destroyed, exactly as the refusal named it; empty refuses a LUN that holds anything.
	Force string `json:"force,omitempty"`
}

// DomainExtended is the answer to DomainExtend: the domain as it is with the LUN.
type DomainExtended struct {
	Domain
	Mirrored bool   `json:"mirrored"` // false: on disk, but Raft has not taken the entry yet
	Index    uint64 `json:"index"`    // Raft index of the mirror entry; 0 when not mirrored
}

// Check is the result of a domain check.
type Check struct {
	Domain   string    `json:"domain"`
	Clean    bool      `json:"clean"` // no finding of severity warning or error
	Findings []Finding `json:"findings"`
}

// Finding is one inconsistency and its repair.
type Finding struct {
	Severity string `json:"severity"`
	What     string `json:"what"`
	Where    string `json:"where"`
	Repair   string `json:"repair"`
}
