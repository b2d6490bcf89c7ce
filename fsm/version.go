package fsm

import "fmt"

// The range of cluster versions that this program speaks. A cluster runs at one active version; it is raised by
// VersionSet once every host speaks the next, never lowered.
const (
	MinVersion = 1
	MaxVersion = 1
)

// base gives every command of the first version its MinVersion.
type base struct{}

// MinVersion is the cluster version from which every replica knows the command.
func (base) MinVersion() int { return 1 }

// ProtocolRange is what a host's program speaks.
type ProtocolRange struct {
	Min int `codec:"n" json:"min"`
	Max int `codec:"x" json:"max"`
}

// Speaks says whether v lies in the range. An empty range speaks version 1 only.
func (p ProtocolRange) Speaks(v int) bool {
	if p == (ProtocolRange{}) {
		return v == 1
	}
	return p.Min <= v && v <= p.Max
}

// VersionSet raises the cluster's active version.
type VersionSet struct {
	base    `codec:"-"`
	Version int `codec:"v"`
}

func (*VersionSet) kind() kind { return kindVersionSet }

func (c *VersionSet) apply(t *tables, _ uint64) Outcome {
	if c.Version < t.meta.Version {
		return refuse(CodeConflict, fmt.Sprintf("cluster version %d cannot go back to %d", t.meta.Version, c.Version))
	}
	for name, h := range t.hosts.All() {
		if !h.Protocol.Speaks(c.Version) {
			return refuse(CodeConflict, fmt.Sprintf("host %s speaks versions %d to %d, not %d; upgrade it first",
				name, h.Protocol.Min, h.Protocol.Max, c.Version))
		}
	}
	t.meta.Version = c.Version
	return Outcome{}
}
