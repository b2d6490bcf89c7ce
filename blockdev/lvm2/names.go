package lvm2

import (
	"fmt"
	"strings"
)

// maxName is the longest name; a VG and an LV name together with the separators stay below maxPair.
const (
	maxName = 127
	maxPair = 128
	maxTag  = 1024
)

// reservedPrefix and reservedPart are what lvm2 keeps for its own internal volumes.
var (
	reservedPrefix = []string{"pvmove", "snapshot"}
	reservedPart   = []string{
		"_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_wcorig", "_mimage", "_mlog", "_rimage", "_rmeta", "_tdata",
		"_tmeta", "_vdata", "_imeta", "_iorig", "_pmspare", "_vorigin",
	}
)

// CheckName tells whether s can name a volume group or a logical volume.
func CheckName(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: a name must not be empty", ErrInvalid)
	case len(s) > maxName:
		return fmt.Errorf("%w: name %.20q... is longer than %d characters", ErrInvalid, s, maxName)
	case s[0] == '-' || s == "." || s == "..":
		return fmt.Errorf("%w: name %q is not allowed; it must not be . or .. or start with a hyphen", ErrInvalid, s)
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && strings.IndexByte("+_.-", c) < 0 {
			return fmt.Errorf("%w: name %q has the character %q; allowed are A-Z a-z 0-9 + _ . -", ErrInvalid, s, c)
		}
	}
	return nil
}

// CheckTag tells whether s can be a tag.
func CheckTag(s string) error {
	if s == "" || len(s) > maxTag {
		return fmt.Errorf("%w: a tag has 1 to %d characters, not %d", ErrInvalid, maxTag, len(s))
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && strings.IndexByte("._-+/=!:&#", c) < 0 {
			return fmt.Errorf("%w: tag %q has the character %q; allowed are A-Z a-z 0-9 . _ - + / = ! : & #", ErrInvalid, s, c)
		}
	}
	return nil
}

// checkNewLV tells whether a logical volume may be created under this name in this volume group.
func checkNewLV(vg, lv string) error {
	if err := CheckName(lv); err != nil {
		return err
	}
	if err := checkPair(vg, lv); err != nil {
		return err
	}
	if reserved(lv) {
		return fmt.Errorf("%w: name %q is reserved for internal volumes of LVM2", ErrInvalid, lv)
	}
	return nil
}

// checkPair checks the lengths that a VG and an LV name have together, also in the kernel's escaped form.
func checkPair(vg, lv string) error {
	if len(vg)+len(lv)+3 >= maxPair {
		return fmt.Errorf("%w: names %q and %q together are too long", ErrInvalid, vg, lv)
	}
	if n := len(vg) + len(lv) + 1 + strings.Count(vg, "-") + strings.Count(lv, "-"); n > maxName {
		return fmt.Errorf("%w: names %q and %q make a device name of %d bytes; the kernel allows %d", ErrInvalid, vg, lv, n, maxName)
	}
	return nil
}

// reserved is true for names that lvm2 refuses for new volumes, and for pv0, pv1..., which mean physical volumes.
func reserved(lv string) bool {
	for _, p := range reservedPrefix {
		if strings.HasPrefix(lv, p) {
			return true
		}
	}
	for _, p := range reservedPart {
		if strings.Contains(lv, p) {
			return true
		}
	}
	rest, ok := strings.CutPrefix(lv, "pv")
	return ok && rest != "" && strings.Trim(rest, "0123456789") == ""
}
