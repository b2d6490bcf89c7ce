package fsm

import (
	"fmt"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// Volume is one layer of a disk's chain as the mirror knows it.
type Volume struct {
	ID          string `codec:"i" json:"id"`
	Image       string `codec:"g" json:"image"`
	Domain      string `codec:"d" json:"domain"`
	Name        string `codec:"n" json:"name"`
	Description string `codec:"x" json:"description"`
	Format      string `codec:"f" json:"format"`
	Allocation  string `codec:"a" json:"allocation"`
	Parent      string `codec:"p" json:"parent"`
	Legality    string `codec:"l" json:"legality"`
	VolType     string `codec:"t" json:"vol_type"`
	Size        int64  `codec:"z" json:"size"`      // capacity that a guest sees, bytes
	Allocated   int64  `codec:"b" json:"allocated"` // bytes taken on the domain
	Slot        int    `codec:"s" json:"slot"`
	Created     int64  `codec:"c" json:"created"`
	Epoch       uint64 `codec:"e" json:"epoch"`
	Seq         uint64 `codec:"q" json:"seq"`
}

func (v Volume) stamp() Stamp { return Stamp{v.Epoch, v.Seq} }

// sameAs compares all but the stamp.
func (v Volume) sameAs(o Volume) bool {
	v.Epoch, v.Seq = o.Epoch, o.Seq
	return v == o
}

func volumeKey(domain, id string) string { return domain + "/" + id }

// VolumesPut adds or changes volumes. Each entry is judged alone: one that is older than what the mirror holds, or than
// the volume's removal, is left out and named in Outcome.Refused.
type VolumesPut struct {
	base    `codec:"-"`
	Volumes []Volume `codec:"v"`
}

func (*VolumesPut) kind() kind { return kindVolumesPut }

func (c *VolumesPut) apply(t *tables, _ uint64) Outcome {
	var out Outcome
	for _, v := range c.Volumes {
		if code, why := t.judge(v.Domain, v.ID, v.stamp()); code != "" {
			out.Refused = append(out.Refused, EntryRefusal{v.ID, code, why})
			continue
		}
		t.putVolume(v)
	}
	return out
}

// VolumeRef names a volume to be removed, and when the SPM removed it.
type VolumeRef struct {
	Domain string `codec:"d"`
	ID     string `codec:"i"`
	Epoch  uint64 `codec:"e"`
	Seq    uint64 `codec:"q"`
}

// VolumesRemove takes volumes out of the mirror. A volume that is not there leaves a tombstone all the same: its put may
// still be on the way.
type VolumesRemove struct {
	base    `codec:"-"`
	Volumes []VolumeRef `codec:"v"`
}

func (*VolumesRemove) kind() kind { return kindVolumesRemove }

func (c *VolumesRemove) apply(t *tables, _ uint64) Outcome {
	var out Outcome
	for _, r := range c.Volumes {
		at := Stamp{r.Epoch, r.Seq}
		if code, why := t.judge(r.Domain, r.ID, at); code != "" {
			out.Refused = append(out.Refused, EntryRefusal{r.ID, code, why})
			continue
		}
		if v, ok := t.volumes.Get(volumeKey(r.Domain, r.ID)); ok {
			t.dropVolume(v)
			out.Removed = append(out.Removed, v.ID)
		}
		t.bury(r.Domain, r.ID, at)
	}
	return out
}

// judge says why an entry of this stamp may not change the volume; an empty code means it may.
func (t *tables) judge(domain, id string, at Stamp) (Code, string) {
	if domain == "" || id == "" {
		return CodeInvalid, "a volume needs a domain and an id"
	}
	if _, ok := t.domains.Get(domain); !ok {
		return CodeNotFound, "no domain " + domain
	}
	if floor, ok := t.floors.Get(domain); ok && older(at, floor) {
		return stale("the domain's last reconcile", at, floor)
	}
	key := volumeKey(domain, id)
	if v, ok := t.volumes.Get(key); ok && older(at, v.stamp()) {
		return stale("the mirror's entry", at, v.stamp())
	}
	if tomb, ok := t.tombs.Get(key); ok && at.Compare(tomb.Stamp) <= 0 {
		return stale("the volume's removal", at, tomb.Stamp)
	}
	return "", ""
}

// older says that an entry is of before another one.
func older(at, newest Stamp) bool {
	if plant.On(plant.NoEpochCheck) && at.Epoch != newest.Epoch {
		return false // planted
	}
	return at.Compare(newest) < 0
}

func stale(than string, at, newest Stamp) (Code, string) {
	return CodeStale, fmt.Sprintf("(%d, %d) is older than %s, (%d, %d)", at.Epoch, at.Seq, than, newest.Epoch, newest.Seq)
}

func (t *tables) volumesOf(domain string) []Volume {
	var out []Volume
	for _, v := range t.volumes.Prefix(domain + "/") {
		out = append(out, v)
	}
	return out
}

// putVolume stores v and keeps the indexes in step.
func (t *tables) putVolume(v Volume) {
	key := volumeKey(v.Domain, v.ID)
	if old, ok := t.volumes.Get(key); ok && old.Name != v.Name {
		t.byName.remove(old.Name + "\x00" + key)
	}
	t.unbury(key, v.Domain)
	t.volumes.put(key, v)
	t.byID.put(v.ID+"/"+v.Domain, key)
	t.byName.put(v.Name+"\x00"+key, key)
}

func (t *tables) dropVolume(v Volume) {
	key := volumeKey(v.Domain, v.ID)
	t.volumes.remove(key)
	t.byID.remove(v.ID + "/" + v.Domain)
	t.byName.remove(v.Name + "\x00" + key)
}
