package api

// Domain is a storage domain.
type Domain struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Type       string   `json:"type"`   // block or file
	Role       string   `json:"role"`   // master or regular
	Status     string   `json:"status"` // active, inactive, unreachable
	Version    int      `json:"version"`
	Size       int64    `json:"size"`
	Free       int64    `json:"free"`
	ExtentSize int64    `json:"extent_size"`
	SectorSize int      `json:"sector_size"`
	LUNs       []string `json:"luns"`
	Volumes    int      `json:"volumes"`
	Epoch      uint64   `json:"epoch"`
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
