package httpapi

import (
	"cmp"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
)

// Limits of requests. What the disk's format limits further is for the roles to say.
const (
	MaxVolumeSize  = int64(8) << 40 // bytes; 8 TiB
	MaxName        = 128            // bytes of a name
	MaxDescription = 256            // bytes of a description
	MaxDevices     = 32             // devices of a domain
	MaxTokenTTL    = 365 * 24 * 3600
)

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@:+-]*$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
)

func invalid(next, format string, args ...any) error {
	return api.Errorf(api.CodeInvalid, next, format, args...)
}

// checkName accepts names that survive shells, URLs, file names and VDSM's metadata, and that are no UUIDs, because
// those are looked up as ids.
func checkName(field, s string) error {
	const next = "use letters, digits and _ . @ : + - and begin with a letter, a digit or _"
	if s == "" {
		return invalid(next, "%s is missing", field)
	}
	if len(s) > MaxName {
		return invalid("choose a shorter one", "%s is %d bytes long, at most %d are allowed", field, len(s), MaxName)
	}
	if !namePattern.MatchString(s) {
		return invalid(next, "%s %q has characters that are not allowed", field, s)
	}
	if uuid.Validate(s) == nil {
		return invalid("choose a name that is not a UUID", "%s %q looks like an id", field, s)
	}
	return nil
}

// checkHostRef accepts an empty host name, or one that could be one.
func checkHostRef(s string) error {
	if s == "" || (len(s) <= 63 && hostPattern.MatchString(s)) {
		return nil
	}
	return invalid("holdfast host list shows the hosts", "%q is not a host name", s)
}

func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return invalid("shorten it", "%s is %d bytes long, at most %d are allowed", field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return invalid("", "%s is not valid UTF-8", field)
	}
	if strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return invalid("remove line breaks and other control characters", "%s has control characters", field)
	}
	return nil
}

// checkID accepts an empty id or a UUID, and makes it lower case.
func checkID(field string, s *string) error {
	if *s == "" {
		return nil
	}
	if len(*s) != 36 || uuid.Validate(*s) != nil {
		return invalid("give a UUID such as 8f1c...", "%s %q is not a UUID", field, *s)
	}
	*s = strings.ToLower(*s)
	return nil
}

// checkVolumeCreate fills in defaults and refuses what can never work.
func checkVolumeCreate(v *api.VolumeCreate) error {
	if err := checkName("name", v.Name); err != nil {
		return err
	}
	if err := checkSizes(v); err != nil {
		return err
	}
	if err := checkKind(v); err != nil {
		return err
	}
	if err := checkID("image", &v.Image); err != nil {
		return err
	}
	if err := checkID("parent", &v.Parent); err != nil {
		return err
	}
	if err := checkText("domain", v.Domain, MaxName); err != nil {
		return err
	}
	return checkText("description", v.Description, MaxDescription)
}

// checkVolumeUpdate refuses an update that says nothing, or what a new volume could not have.
func checkVolumeUpdate(v api.VolumeUpdate) error {
	if v.Name == nil && v.Description == nil {
		return invalid("give name, description or both", "there is nothing to change")
	}
	if v.Name != nil {
		if err := checkName("name", *v.Name); err != nil {
			return err
		}
	}
	if v.Description == nil {
		return nil
	}
	return checkText("description", *v.Description, MaxDescription)
}

func checkSizes(v *api.VolumeCreate) error {
	const next = "give a size such as 10GiB"
	switch {
	case v.Size <= 0:
		return invalid(next, "size is %d bytes, it must be greater than 0", v.Size)
	case v.Size > MaxVolumeSize:
		return invalid("choose at most 8TiB", "size is %d bytes, at most %d are allowed", v.Size, MaxVolumeSize)
	case v.Size%512 != 0:
		return invalid("round it up to a multiple of 512", "size %d is not a multiple of 512 bytes", v.Size)
	case v.InitialSize < 0 || v.InitialSize > v.Size:
		return invalid("leave initial_size out", "initial_size %d is not between 0 and the size", v.InitialSize)
	}
	return nil
}

func checkKind(v *api.VolumeCreate) error {
	v.Format = cmp.Or(v.Format, api.FormatQCOW2)
	switch v.Format {
	case api.FormatQCOW2:
		v.Allocation = cmp.Or(v.Allocation, api.AllocationSparse)
	case api.FormatRaw:
		v.Allocation = cmp.Or(v.Allocation, api.AllocationPreallocated)
	default:
		return invalid("use raw or qcow2", "format %q is not known", v.Format)
	}
	switch {
	case v.Allocation != api.AllocationSparse && v.Allocation != api.AllocationPreallocated:
		return invalid("use sparse or preallocated", "allocation %q is not known", v.Allocation)
	case v.Format == api.FormatRaw && v.Allocation == api.AllocationSparse:
		return invalid("use qcow2, or allocation preallocated", "a raw volume on a block domain cannot be sparse")
	case v.Format == api.FormatRaw && v.Parent != "":
		return invalid("use qcow2", "a raw volume cannot have a parent")
	}
	return nil
}

func checkDomainCreate(d api.DomainCreate) error {
	if err := checkName("name", d.Name); err != nil {
		return err
	}
	if err := checkText("force", d.Force, MaxDescription); err != nil {
		return err
	}
	if len(d.Devices) == 0 {
		return invalid("name at least one device", "devices is empty")
	}
	return checkDevices(d.Devices)
}

func checkDomainExtend(d api.DomainExtend) error {
	if d.LUN == "" {
		return invalid("name the LUN to add", "lun is missing")
	}
	if err := checkText("force", d.Force, MaxDescription); err != nil {
		return err
	}
	return checkDevices([]string{d.LUN})
}

func checkDevices(devices []string) error {
	if len(devices) > MaxDevices {
		return invalid("use fewer, larger devices", "%d devices are given, at most %d are allowed", len(devices), MaxDevices)
	}
	seen := map[string]bool{}
	for _, d := range devices {
		if err := checkText("device", d, 1024); err != nil {
			return err
		}
		if !strings.HasPrefix(d, "/") && !strings.HasPrefix(d, "nbd://") && !strings.HasPrefix(d, "nbd+unix://") {
			return invalid("give an absolute path or an nbd:// address", "device %q is neither", d)
		}
		if seen[d] {
			return invalid("name each device once", "device %q is given twice", d)
		}
		seen[d] = true
	}
	return nil
}

func checkTokenCreate(t *api.TokenCreate) error {
	t.TTLSeconds = cmp.Or(t.TTLSeconds, 3600)
	switch t.Role {
	case api.RoleJoin, api.RoleAdmin, api.RoleRead:
	default:
		return invalid("use join, admin or read", "role %q is not known", t.Role)
	}
	if t.TTLSeconds < 1 || t.TTLSeconds > MaxTokenTTL {
		return invalid("give between a second and a year", "ttl_seconds %d is out of range", t.TTLSeconds)
	}
	return nil
}

func checkInit(i *api.Init) error {
	if err := checkName("pool", i.Pool); err != nil {
		return err
	}
	switch i.Profile {
	case "", "compatible", "fast", "dev":
	default:
		return invalid("use compatible, fast or dev", "profile %q is not known", i.Profile)
	}
	if len(i.Devices) == 0 {
		return invalid("name at least one LUN", "the pool's master domain, which holds the SPM lease, needs a device")
	}
	i.Domain = cmp.Or(i.Domain, "master")
	if err := checkName("domain", i.Domain); err != nil {
		return err
	}
	return checkDevices(i.Devices)
}

func checkJoin(j *api.Join) error {
	if j.Token == "" || len(j.Token) > 1024 {
		return invalid("create one with holdfast operator token create", "token is missing or too long")
	}
	if j.Address == "" {
		return invalid("give host:port of any member", "address is missing")
	}
	return checkText("address", j.Address, 512)
}
