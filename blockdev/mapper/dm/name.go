package dm

import (
	"fmt"
	"strings"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// uuidPrefix marks the devices of LVM2.
const uuidPrefix = "LVM-"

// rawID is the length of an id of LVM2 without hyphens.
const rawID = 32

// Name is the device's name: the names of the volume group and the volume with each hyphen doubled, and one between them.
func Name(vg, lv string) string { return doubled(vg) + "-" + doubled(lv) }

func doubled(s string) string { return strings.ReplaceAll(s, "-", "--") }

// UUID is the device's uuid, by which lvm2 knows that the volume is active.
func UUID(vg *lvm2.VG, lv *lvm2.LV) string { return groupPrefix(vg) + undashed(lv.ID) }

// groupPrefix is what the uuids of a volume group's devices begin with.
func groupPrefix(vg *lvm2.VG) string { return uuidPrefix + undashed(vg.ID) }

func undashed(id string) string { return strings.ReplaceAll(id, "-", "") }

// Identity is how the kernel knows a volume: by the uuid; the name is for people and for the node.
type Identity struct{ Name, UUID string }

// Identify computes the identity of a logical volume.
func Identify(vg *lvm2.VG, lv *lvm2.LV) (Identity, error) {
	id := Identity{Name: Name(vg.Name, lv.Name), UUID: UUID(vg, lv)}
	return id, id.check()
}

func (id Identity) check() error {
	if id.Name == "" || len(id.Name) >= nameLen || strings.ContainsAny(id.Name, "/\x00") || len(id.UUID) != len(uuidPrefix)+2*rawID {
		return fmt.Errorf("%w: device name %.150q, uuid %.150q: want 1 to %d bytes without a slash, and exactly %d",
			ErrUnmappable, id.Name, id.UUID, nameLen-1, len(uuidPrefix)+2*rawID)
	}
	return nil
}
