package dm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// simKernel is a device-mapper in memory. It takes and gives bytes as the kernel does, by code of its own and by the structs
// of x/sys/unix, so that a mistake of our codec cannot cancel itself out.
type simKernel struct {
	mu     sync.Mutex // guards all below
	minor  uint32
	devs   map[string]*simDev // by uuid
	luns   map[Number]int64   // sectors of the devices below
	next   uint32
	uevent bool             // events are heard by somebody
	watch  func(*simKernel) // after every ioctl that changed something; with mu held
}

type simDev struct {
	name, uuid string
	num        Number
	open       int
	ro         bool
	suspended  bool
	live, idle *simTable
}

type simTable struct {
	t  Table
	ro bool
}

func newSimKernel(luns map[Number]int64) *simKernel {
	return &simKernel{minor: 48, devs: map[string]*simDev{}, luns: luns, watch: func(*simKernel) {}}
}

// Ioctl implements Kernel.
func (k *simKernel) Ioctl(cmd uint, buf []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(buf) < unix.SizeofDmIoctl {
		return unix.EINVAL
	}
	h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	if h.Version[0] != 4 || int(h.Data_size) != len(buf) {
		return unix.EINVAL
	}
	h.Version[1] = k.minor
	h.Flags &^= unix.DM_UEVENT_GENERATED_FLAG | unix.DM_BUFFER_FULL_FLAG
	input := buf[h.Data_start:]
	h.Data_size = 305 // what is before a result
	switch cmd {
	case unix.DM_VERSION:
		return nil
	case unix.DM_LIST_DEVICES:
		k.list(h, buf)
		return nil
	case unix.DM_DEV_CREATE:
		if err := k.create(h); err != nil {
			return err
		}
		k.watch(k)
		return nil
	}
	d := k.find(h)
	if d == nil {
		return unix.ENXIO
	}
	err := k.onDevice(cmd, d, h, buf, input)
	if err == nil {
		k.watch(k)
	}
	return err
}

// Close implements Kernel.
func (k *simKernel) Close() error { return nil }

func (k *simKernel) onDevice(cmd uint, d *simDev, h *unix.DmIoctl, buf, input []byte) error {
	switch cmd {
	case unix.DM_TABLE_LOAD:
		t, err := k.parse(input, h.Target_count)
		if err != nil {
			return err
		}
		d.idle = &simTable{t, h.Flags&unix.DM_READONLY_FLAG != 0}
	case unix.DM_TABLE_CLEAR:
		d.idle = nil
	case unix.DM_DEV_SUSPEND:
		k.suspend(d, h)
	case unix.DM_DEV_REMOVE:
		if d.open > 0 {
			return unix.EBUSY
		}
		delete(k.devs, d.uuid)
		k.event(h)
		return nil
	case unix.DM_DEV_STATUS:
	case unix.DM_TABLE_STATUS:
		d.status(h)
		if d.live != nil {
			d.table(h, buf)
		}
		return nil
	default:
		return unix.ENOTTY
	}
	d.status(h)
	return nil
}

func (k *simKernel) event(h *unix.DmIoctl) {
	if k.uevent {
		h.Flags |= unix.DM_UEVENT_GENERATED_FLAG
	}
}

// suspend is both: with the flag I/O is held, without it the idle table comes into force and I/O goes on.
func (k *simKernel) suspend(d *simDev, h *unix.DmIoctl) {
	if h.Flags&unix.DM_SUSPEND_FLAG != 0 {
		d.suspended = true
		return
	}
	if d.idle != nil {
		d.live, d.ro, d.idle = d.idle, d.idle.ro, nil
	}
	d.suspended = false
	k.event(h)
}

func (k *simKernel) create(h *unix.DmIoctl) error {
	name, uuid := simString(h.Name[:]), simString(h.Uuid[:])
	if name == "" || strings.Contains(name, "/") {
		return unix.EINVAL
	}
	for _, d := range k.devs {
		if d.name == name || d.uuid == uuid {
			return unix.EBUSY
		}
	}
	d := &simDev{name: name, uuid: uuid, num: Number{253, k.next}, ro: h.Flags&unix.DM_READONLY_FLAG != 0, suspended: false}
	k.next++
	k.devs[uuid] = d
	d.status(h)
	return nil
}

// find takes a name or a uuid, not both.
func (k *simKernel) find(h *unix.DmIoctl) *simDev {
	name, uuid := simString(h.Name[:]), simString(h.Uuid[:])
	if name != "" && uuid != "" {
		return nil
	}
	for _, d := range k.devs {
		if uuid != "" && d.uuid == uuid || name != "" && d.name == name {
			return d
		}
	}
	return nil
}

// parse reads targets whose next counts from each of them.
func (k *simKernel) parse(b []byte, count uint32) (Table, error) {
	var t Table
	due := int64(0)
	for range count {
		if len(b) < unix.SizeofDmTargetSpec {
			return nil, unix.EINVAL
		}
		spec := (*unix.DmTargetSpec)(unsafe.Pointer(&b[0]))
		var x Target
		x.Start, x.Length = int64(spec.Sector_start), int64(spec.Length)
		params := simString(b[unix.SizeofDmTargetSpec:])
		if simString(spec.Target_type[:]) == "error" {
			x.Fails, params = true, "254:0 0"
			copy(spec.Target_type[:], "linear\x00")
		}
		if _, err := fmt.Sscanf(params, "%d:%d %d", &x.Dev.Major, &x.Dev.Minor, &x.Offset); err != nil {
			return nil, unix.EINVAL
		}
		size, ok := k.luns[x.Dev]
		if x.Fails {
			x.Dev = Number{}
			size = x.Length
		}
		if simString(spec.Target_type[:]) != "linear" || x.Start != due || !ok || x.Offset+x.Length > size || x.Length <= 0 {
			return nil, unix.EINVAL
		}
		due += x.Length
		t = append(t, x)
		if int(spec.Next) > len(b) || spec.Next%8 != 0 {
			return nil, unix.EINVAL
		}
		b = b[spec.Next:]
	}
	if len(t) == 0 {
		return nil, unix.EINVAL
	}
	return t, nil
}

func (d *simDev) status(h *unix.DmIoctl) {
	h.Flags &^= unix.DM_SUSPEND_FLAG | unix.DM_READONLY_FLAG | unix.DM_ACTIVE_PRESENT_FLAG | unix.DM_INACTIVE_PRESENT_FLAG
	for flag, on := range map[uint32]bool{
		unix.DM_SUSPEND_FLAG: d.suspended, unix.DM_READONLY_FLAG: d.ro,
		unix.DM_ACTIVE_PRESENT_FLAG: d.live != nil, unix.DM_INACTIVE_PRESENT_FLAG: d.idle != nil,
	} {
		if on {
			h.Flags |= flag
		}
	}
	h.Open_count, h.Target_count = int32(d.open), 0
	if d.live != nil {
		h.Target_count = uint32(len(d.live.t))
	}
	h.Dev = d.num.encode()
	copy(h.Name[:], d.name+"\x00")
	copy(h.Uuid[:], d.uuid+"\x00")
}

// table gives targets whose next counts from the first.
func (d *simDev) table(h *unix.DmIoctl, buf []byte) {
	var out []byte
	for _, x := range d.live.t {
		at := len(out)
		out = append(out, make([]byte, unix.SizeofDmTargetSpec)...)
		kind := "linear"
		if x.Fails {
			kind = "error"
			out = append(out, 0)
		} else {
			out = append(out, fmt.Sprintf("%d:%d %d\x00", x.Dev.Major, x.Dev.Minor, x.Offset)...)
		}
		out = append(out, make([]byte, -len(out)&7)...)
		spec := (*unix.DmTargetSpec)(unsafe.Pointer(&out[at]))
		spec.Sector_start, spec.Length, spec.Next = uint64(x.Start), uint64(x.Length), uint32(len(out))
		copy(spec.Target_type[:], kind)
	}
	result(h, buf, out)
}

func result(h *unix.DmIoctl, buf, out []byte) {
	h.Data_start = unix.SizeofDmIoctl
	if len(out) > len(buf)-unix.SizeofDmIoctl {
		h.Flags |= unix.DM_BUFFER_FULL_FLAG
		return
	}
	copy(buf[unix.SizeofDmIoctl:], out)
	h.Data_size = uint32(unix.SizeofDmIoctl + len(out))
}

func (k *simKernel) list(h *unix.DmIoctl, buf []byte) {
	var all []*simDev
	for _, d := range k.devs {
		all = append(all, d)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].num.Minor < all[j].num.Minor })
	out := make([]byte, 0, 64)
	last := 0
	for _, d := range all {
		at := len(out)
		if at > 0 {
			binary.LittleEndian.PutUint32(out[last+8:], uint32(at-last))
		}
		last = at
		out = binary.LittleEndian.AppendUint64(out, d.num.encode())
		out = append(append(out, 0, 0, 0, 0), d.name+"\x00"...)
		out = append(out, make([]byte, -len(out)&7)...)
		out = binary.LittleEndian.AppendUint32(out, 7) // event number
		switch {
		case k.minor < 45:
			out = append(out, 0xff, 0xff, 0xff, 0xff) // whatever was in memory
		case h.Flags&unix.DM_UUID_FLAG == 0:
			out = append(out, 0, 0, 0, 0)
		default:
			out = binary.LittleEndian.AppendUint32(out, unix.DM_NAME_LIST_FLAG_HAS_UUID)
			out = append(out, d.uuid+"\x00"...)
		}
		out = append(out, make([]byte, -len(out)&7)...)
	}
	if len(all) == 0 {
		out = append(out, make([]byte, 16)...)
	}
	result(h, buf, out)
}

func simString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// snapshot returns a copy of a device.
func (k *simKernel) device(uuid string) (simDev, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, ok := k.devs[uuid]
	if !ok {
		return simDev{}, false
	}
	return *d, true
}

func (k *simKernel) change(uuid string, f func(*simDev)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k.devs[uuid])
}

var errDead = errors.New("the process is dead")

// process is one life of ours on top of the kernel: it dies, or a call fails, at a step.
type process struct {
	Kernel
	mu      sync.Mutex // guards what follows
	step    int        // the step that is next
	dieAt   int        // -1: never
	after   bool       // the step is done, and then it dies
	failAt  int        // -1: never
	errno   error
	forever bool // it goes on failing
	dead    bool
	change  func(cmd uint, buf []byte) (drop bool) // a planted bug
	hang    chan struct{}                          // calls wait for it to be closed
}

func newProcess(k Kernel) *process { return &process{Kernel: k, dieAt: -1, failAt: -1} }

// do counts one step, whatever it is.
func (p *process) do(f func() error) error {
	p.mu.Lock()
	n, hang := p.step, p.hang
	p.step++
	if p.dead {
		p.mu.Unlock()
		return errDead
	}
	die := n == p.dieAt
	p.dead = die
	fail := n == p.failAt || p.forever && p.failAt >= 0 && n > p.failAt
	p.mu.Unlock()
	if hang != nil {
		<-hang
	}
	switch {
	case fail:
		return p.errno
	case die && !p.after:
		return errDead
	}
	err := f()
	if die {
		return errDead
	}
	return err
}

// Ioctl implements Kernel.
func (p *process) Ioctl(cmd uint, buf []byte) error {
	return p.do(func() error {
		if p.change != nil && p.change(cmd, buf) {
			return nil
		}
		return p.Kernel.Ioctl(cmd, buf)
	})
}
