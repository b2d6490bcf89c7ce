package dm

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// errAbsent says that the kernel has no such device.
var errAbsent = errors.New("no such device")

// commands are the ioctls that the mapper needs, as functions. Devices are named by their uuid: a name may change.
type commands struct{ k Kernel }

// firstRoom is what a reply gets at first; most tables fit.
const firstRoom = 16 << 10

// call makes one ioctl, again with more room while the reply does not fit.
func (c commands) call(what string, cmd uint, h header, payload []byte, room int) (header, []byte, error) {
	for {
		buf, err := h.encode(payload, room)
		if err != nil {
			return header{}, nil, err
		}
		if err := c.k.Ioctl(cmd, buf); err != nil {
			if errors.Is(err, unix.ENXIO) {
				err = errAbsent
			}
			return header{}, nil, fmt.Errorf("device-mapper %s %s%s: %w", what, h.name, h.uuid, err)
		}
		reply, data, err := decodeHeader(buf)
		if err != nil {
			return header{}, nil, fmt.Errorf("device-mapper %s: %w", what, err)
		}
		if reply.flags&unix.DM_BUFFER_FULL_FLAG == 0 {
			return reply, data, nil
		}
		if room *= 4; room > maxReply {
			return header{}, nil, fmt.Errorf("device-mapper %s: %w: a reply above %d bytes", what, ErrKernel, maxReply)
		}
	}
}

// version is the kernel's minor version of the interface.
func (c commands) version() (uint32, error) {
	h, _, err := c.call("version", unix.DM_VERSION, header{}, nil, 0)
	return h.version[1], err
}

func readOnlyFlag(readOnly bool) uint32 {
	if readOnly {
		return unix.DM_READONLY_FLAG
	}
	return 0
}

// create makes a device without a table.
func (c commands) create(id Identity, readOnly bool) error {
	h := header{name: id.Name, uuid: id.UUID, flags: readOnlyFlag(readOnly)}
	_, _, err := c.call("create", unix.DM_DEV_CREATE, h, nil, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w %s (%w)", ErrNameTaken, id.Name, err)
	}
	return err
}

// load puts a table into the device's second place, where the next resume takes it from.
func (c commands) load(uuid string, t Table, readOnly bool) error {
	h := header{uuid: uuid, targets: uint32(len(t)), flags: readOnlyFlag(readOnly)}
	_, _, err := c.call("load", unix.DM_TABLE_LOAD, h, t.encode(), 0)
	return err
}

// clear empties the second place.
func (c commands) clear(uuid string) error {
	_, _, err := c.call("clear", unix.DM_TABLE_CLEAR, header{uuid: uuid}, nil, 0)
	return err
}

// resume lets I/O through. A table in the second place comes into force first: the kernel holds new I/O, waits for what
// is under way, and swaps, all within this one call, so that no death of ours can leave the device suspended. File systems
// on the volume are not frozen for it (as lvm2 does with linear volumes): nothing that they wrote moves.
func (c commands) resume(uuid string, event uint32) (uevent bool, err error) {
	h := header{uuid: uuid, flags: unix.DM_SKIP_LOCKFS_FLAG, event: event}
	reply, _, err := c.call("resume", unix.DM_DEV_SUSPEND, h, nil, 0)
	return reply.flags&unix.DM_UEVENT_GENERATED_FLAG != 0, err
}

// suspend holds all I/O from here on, and returns when what was under way is over. File systems are not frozen: the guest's are
// its own.
func (c commands) suspend(uuid string) error {
	h := header{uuid: uuid, flags: unix.DM_SUSPEND_FLAG | unix.DM_SKIP_LOCKFS_FLAG | unix.DM_NOFLUSH_FLAG}
	_, _, err := c.call("suspend", unix.DM_DEV_SUSPEND, h, nil, 0)
	return err
}

// remove takes the device away; EBUSY while somebody has it open.
func (c commands) remove(uuid string, event uint32) (uevent bool, err error) {
	reply, _, err := c.call("remove", unix.DM_DEV_REMOVE, header{uuid: uuid, event: event}, nil, 0)
	return reply.flags&unix.DM_UEVENT_GENERATED_FLAG != 0, err
}

// Device is what the kernel says of a mapped device.
type Device struct {
	Name   string
	UUID   string
	Number Number
	// OpenCount is how often it is open, mounts and other devices on top of it included.
	OpenCount int
	// Active says that it has a table, Suspended that I/O waits, Prepared that another table waits for the next resume.
	Active, Suspended, Prepared bool
	ReadOnly                    bool
	// Table is what it maps.
	Table Table
	// Path is its node. Set by Mapper.
	Path string
}

// look asks for a device and its table.
func (c commands) look(uuid string) (Device, error) {
	h := header{uuid: uuid, flags: unix.DM_STATUS_TABLE_FLAG}
	reply, data, err := c.call("table", unix.DM_TABLE_STATUS, h, nil, firstRoom)
	if err != nil {
		return Device{}, err
	}
	d := reply.device()
	if d.UUID != uuid {
		return Device{}, fmt.Errorf("%w: asked for %s, it told of %s", ErrKernel, uuid, d.UUID)
	}
	if !d.Active {
		return d, nil
	}
	if d.Table, err = decodeTable(data, reply.targets); err != nil {
		return d, fmt.Errorf("table of %s: %w", d.Name, err)
	}
	return d, nil
}

func (h *header) device() Device {
	has := func(flag uint32) bool { return h.flags&flag != 0 }
	return Device{
		Name: h.name, UUID: h.uuid, Number: h.dev, OpenCount: int(h.open),
		Active: has(unix.DM_ACTIVE_PRESENT_FLAG), Suspended: has(unix.DM_SUSPEND_FLAG),
		Prepared: has(unix.DM_INACTIVE_PRESENT_FLAG), ReadOnly: has(unix.DM_READONLY_FLAG),
	}
}

// list finds the uuids of all devices that begin with prefix.
func (c commands) list(prefix string) ([]string, error) {
	minor, err := c.version()
	if err != nil {
		return nil, err
	}
	_, data, err := c.call("list", unix.DM_LIST_DEVICES, header{flags: unix.DM_UUID_FLAG}, nil, firstRoom)
	if err != nil {
		return nil, err
	}
	all, err := decodeList(data, minor >= uuidsListed)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range all {
		if !e.told {
			if e.uuid, err = c.uuidOf(e.name); err != nil {
				return nil, err
			}
		}
		if strings.HasPrefix(e.uuid, prefix) {
			out = append(out, e.uuid)
		}
	}
	return out, nil
}

// Identity is what Deactivate takes.
func (d *Device) Identity() Identity { return Identity{Name: d.Name, UUID: d.UUID} }

// uuidOf asks for the uuid of a device by its name; empty when it is gone meanwhile.
func (c commands) uuidOf(name string) (string, error) {
	reply, _, err := c.call("status", unix.DM_DEV_STATUS, header{name: name}, nil, 0)
	if errors.Is(err, errAbsent) {
		return "", nil
	}
	return reply.uuid, err
}
