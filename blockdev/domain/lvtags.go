package domain

import (
	"strconv"
	"strings"
)

const (
	tagSlot         = "MD_"
	tagImage        = "IU_"
	tagParent       = "PU_"
	tagInitializing = "OVIRT_VOL_INITIALIZING"

	removedPrefix = "_remove_me_"
	wipePrefix    = "_remove_me_ZERO_"
)

// lvTags is what the tags and the name of a volume's LV say.
type lvTags struct {
	image, parent string
	hasImage      bool
	hasParent     bool
	slot          int // 0: no MD_ tag, or a bad one
	slotTags      int // number of MD_ tags
	badSlot       string
	initializing  bool
	removing      bool
	wipe          bool // only with removing
}

// parseLVTags reads the tags of an LV. Tags of others are ignored.
func parseLVTags(name string, tags []string) lvTags {
	var t lvTags
	for _, tag := range tags {
		switch {
		case tag == tagInitializing:
			t.initializing = true
		case strings.HasPrefix(tag, tagSlot):
			t.slotTags++
			t.parseSlot(tag[len(tagSlot):])
		case strings.HasPrefix(tag, tagImage):
			t.hasImage = true
			t.parseImage(tag[len(tagImage):])
		case strings.HasPrefix(tag, tagParent):
			t.hasParent = true
			t.parent = parentOf(tag[len(tagParent):])
		}
	}
	if strings.HasPrefix(name, removedPrefix) {
		t.removing = true
	}
	return t
}

func (t *lvTags) parseSlot(s string) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		t.badSlot = s
		return
	}
	t.slot = int(n)
}

func (t *lvTags) parseImage(s string) {
	if img, ok := strings.CutPrefix(s, wipePrefix); ok {
		t.removing, t.wipe, t.image = true, true, img
		return
	}
	if img, ok := strings.CutPrefix(s, removedPrefix); ok {
		t.removing, t.image = true, img
		return
	}
	t.image = s
}

// state is the State that follows from the tags alone.
func (t lvTags) state() string {
	switch {
	case t.initializing:
		return StateInitializing
	case t.wipe:
		return StateWiping
	case t.removing:
		return StateRemoving
	}
	return StateOK
}

// parentOf turns the nil UUID into the empty string.
func parentOf(id string) string {
	if id == NilUUID {
		return ""
	}
	return id
}

// parentOnDisk undoes parentOf.
func parentOnDisk(id string) string {
	if id == "" {
		return NilUUID
	}
	return id
}

// volumeTags are the tags of a new volume.
func volumeTags(slot int, parent, image string) []string {
	return []string{tagSlot + strconv.Itoa(slot), tagParent + parentOnDisk(parent), tagImage + image}
}

// validUUID tells whether s is a lower-case UUID, the only form VDSM accepts.
func validUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
