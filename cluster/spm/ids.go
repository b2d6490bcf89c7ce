package spm

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// MaxNameBytes bounds a volume's name: what the metadata slot can hold beside the rest.
const MaxNameBytes = 255

// maxKeyBytes bounds an idempotency key.
const maxKeyBytes = 255

// namespace is the name space of volume ids made from idempotency keys when the pool's id is not a UUID.
var namespace = uuid.MustParse("6f1c2d0e-54a7-5c11-9d3e-0f6a7c1b8e42")

// deriveID makes the same id from the same pool, kind and key, on any host and under any epoch. An empty key makes a
// new random id.
func deriveID(pool, kind, key string) string {
	if key == "" {
		return uuid.NewString()
	}
	ns, err := uuid.Parse(pool)
	if err != nil {
		ns = uuid.NewSHA1(namespace, []byte(pool))
	}
	return uuid.NewSHA1(ns, []byte(kind+"\x00"+key)).String()
}

// spec validates a request and makes of it what the writer takes.
func (r *Role) spec(req CreateRequest) (domain.VolumeSpec, error) {
	for _, check := range []func(CreateRequest) error{checkName, checkSizes, checkFormat, checkIDs} {
		if err := check(req); err != nil {
			return domain.VolumeSpec{}, err
		}
	}
	s := domain.VolumeSpec{
		ID: deriveID(r.cfg.Pool, "volume", req.Key), Image: strings.ToLower(req.Image), Name: req.Name,
		Description: req.Description, Format: req.Format, Allocation: req.Allocation,
		Parent: strings.ToLower(req.Parent), Capacity: req.Size, InitialSize: req.InitialSize,
	}
	if s.Format == "" {
		s.Format = domain.FormatQcow2
	}
	if s.Image == "" {
		s.Image = deriveID(r.cfg.Pool, "image", req.Key)
	}
	return s, nil
}

// checkName refuses names that nobody could type, see or store.
func checkName(req CreateRequest) error {
	switch {
	case req.Name == "":
		return invalidf("a volume needs a name")
	case len(req.Name) > MaxNameBytes:
		return invalidf("the name has %d bytes, at most %d fit", len(req.Name), MaxNameBytes)
	case len(req.Key) > maxKeyBytes:
		return invalidf("the idempotency key has %d bytes, at most %d are taken", len(req.Key), maxKeyBytes)
	case strings.TrimSpace(req.Name) != req.Name:
		return invalidf("the name %q begins or ends with a space", req.Name)
	}
	for _, text := range []string{req.Name, req.Description} {
		if !utf8.ValidString(text) {
			return invalidf("%q is not valid UTF-8", text)
		}
		if i := strings.IndexFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 {
			return invalidf("%q has a character at byte %d that cannot be printed", text, i)
		}
	}
	return nil
}

// checkSizes refuses 0, negative and absurd sizes.
func checkSizes(req CreateRequest) error {
	switch {
	case req.Size <= 0:
		return invalidf("size is %d bytes, it must be greater than 0", req.Size)
	case req.Size > domain.MaxCapacity:
		return invalidf("size is %d bytes, the most is %d (8 TiB)", req.Size, int64(domain.MaxCapacity))
	case req.InitialSize < 0:
		return invalidf("initial_size is %d bytes, it must not be negative", req.InitialSize)
	case req.InitialSize > req.Size+req.Size/8+1<<30:
		return invalidf("initial_size is %d bytes, more than a volume of %d bytes can ever need", req.InitialSize, req.Size)
	}
	return nil
}

// checkFormat refuses formats and policies that do not exist or do not go together.
func checkFormat(req CreateRequest) error {
	switch req.Format {
	case "", domain.FormatQcow2, domain.FormatRaw:
	default:
		return invalidf("format %q: use %s or %s", req.Format, domain.FormatRaw, domain.FormatQcow2)
	}
	switch req.Allocation {
	case "", domain.Sparse, domain.Preallocated:
	default:
		return invalidf("allocation %q: use %s or %s", req.Allocation, domain.Sparse, domain.Preallocated)
	}
	if req.Format == domain.FormatRaw && req.Allocation == domain.Sparse {
		return invalidf("a raw volume on a block domain cannot be sparse: use format qcow2")
	}
	if req.Format == domain.FormatRaw && req.Parent != "" {
		return invalidf("a volume with a parent must be qcow2")
	}
	return nil
}

// checkIDs refuses ids that are not UUIDs.
func checkIDs(req CreateRequest) error {
	for what, id := range map[string]string{"image": req.Image, "parent": req.Parent} {
		if id == "" {
			continue
		}
		if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
			return invalidf("%s %q is not a UUID", what, id)
		}
	}
	if req.Parent != "" && req.Image == "" {
		return invalidf("a volume with a parent belongs to its parent's image: name the image")
	}
	return nil
}
