package mailbox

import (
	"encoding/binary"
	"fmt"
)

// PageSize is the size of a host's page, of the SPM's page for it, and of the event block.
const PageSize = 4096

const (
	pageSize   = PageSize
	slotCount  = 63
	checksumAt = pageSize - 4
	// maxPages is how many pages the smallest mailbox volume, 16 MiB, has.
	maxPages = 16 << 20 / pageSize
	// MaxHostID is the highest host id that a VDSM SPM reads.
	MaxHostID = 249
)

// Slots is how many slots a page has.
const Slots = slotCount

// SlotState says what is in a slot.
type SlotState uint8

// The states of a slot.
const (
	// Empty slots have a first byte of 0.
	Empty SlotState = iota
	// Clean slots say that an answer was seen, in outbox that this was seen.
	Clean
	// Asking slots have a message, in outbox an answer.
	Asking
	// Unreadable slots have something else.
	Unreadable
)

// String is the state as people write it.
func (s SlotState) String() string {
	return [...]string{"empty", "clean", "message", "unreadable"}[s&3]
}

// Slot is a slot that is not empty, for people and programs that look at a mailbox.
type Slot struct {
	Index   int
	State   SlotState
	Message Message // when Asking
	Err     error   // when Unreadable
}

// DecodeInboxPage lists the slots in use of a page that a host wrote, after a look at its checksum.
func DecodeInboxPage(p []byte) ([]Slot, error) {
	if err := verifyPage(p); err != nil {
		return nil, err
	}
	return decodeSlots(p), nil
}

// DecodeOutboxPage lists the slots in use of a page that an SPM wrote; such pages have no checksum.
func DecodeOutboxPage(p []byte) ([]Slot, error) {
	if len(p) != pageSize {
		return nil, fmt.Errorf("%w: page of %d bytes", ErrCorrupt, len(p))
	}
	return decodeSlots(p), nil
}

func decodeSlots(p []byte) []Slot {
	var out []Slot
	for i := range slotCount {
		b := slotOf(p, i)
		s := Slot{Index: i, State: stateOf(b)}
		switch s.State {
		case Empty:
			continue
		case Asking:
			if s.Message, s.Err = DecodeMessage(b); s.Err != nil {
				s.State = Unreadable
			}
		}
		out = append(out, s)
	}
	return out
}

// slotOf is slot i of a page.
func slotOf(p []byte, i int) []byte { return p[i*slotSize : (i+1)*slotSize] }

// pageOf is page h of a volume image.
func pageOf(image []byte, h int) []byte { return image[h*pageSize : (h+1)*pageSize] }

// stateOf tells the state of a slot by its bytes.
func stateOf(slot []byte) SlotState {
	if slot[0] == 0 {
		return Empty
	}
	for _, b := range slot {
		if b != cleanByte {
			return Asking
		}
	}
	return Clean
}

// putClean and putEmpty write the two states that are no message.
func putClean(slot []byte) {
	for i := range slot {
		slot[i] = cleanByte
	}
}

func putEmpty(slot []byte) { clear(slot) }

// checksum is the sum of all bytes before the checksum of a page.
func checksum(p []byte) (sum uint32) {
	for _, b := range p[:checksumAt] {
		sum += uint32(b)
	}
	return sum
}

// sealPage puts the checksum into a page for inbox.
func sealPage(p []byte) { binary.LittleEndian.PutUint32(p[checksumAt:], checksum(p)) }

// verifyPage says whether a page of inbox is whole.
func verifyPage(p []byte) error {
	if len(p) != pageSize {
		return fmt.Errorf("%w: page of %d bytes", ErrCorrupt, len(p))
	}
	if want, got := checksum(p), binary.LittleEndian.Uint32(p[checksumAt:]); want != got {
		return fmt.Errorf("%w: checksum of the page is 0x%08x, not 0x%08x", ErrCorrupt, got, want)
	}
	return nil
}
