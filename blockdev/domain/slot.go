package domain

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	// ErrSlotEmpty says that a metadata slot holds only zeroes: it was never written.
	ErrSlotEmpty = errors.New("metadata slot was never written")
	// ErrSlotCleared says that a metadata slot was cleared by the delete of an old VDSM.
	ErrSlotCleared = errors.New("metadata slot was cleared by a delete")
	// ErrSlotCorrupt says that a metadata slot cannot be understood.
	ErrSlotCorrupt = errors.New("metadata slot is corrupt")
)

// slotMeta is the content of a metadata slot, as it stands on disk.
type slotMeta struct {
	capacity    int64
	ctime       int64
	description string
	diskType    string
	domain      string
	format      string // RAW, COW
	gen         int64
	image       string
	legality    string // LEGAL, ILLEGAL, FAKE
	parent      string // nil UUID for none
	seq         int64
	alloc       string // SPARSE, PREALLOCATED
	volType     string // LEAF, INTERNAL, SHARED
}

// encode returns the 512 bytes of a version 5 slot.
func (m *slotMeta) encode() ([]byte, error) {
	if strings.ContainsAny(m.description, "\n\r\x00") || !utf8.ValidString(m.description) {
		return nil, fmt.Errorf("name or description holds a line break, a zero byte or broken UTF-8: %w", ErrInvalid)
	}
	out := make([]byte, 0, slotSize)
	for _, kv := range [...][2]string{
		{"CAP", strconv.FormatInt(m.capacity, 10)},
		{"CTIME", strconv.FormatInt(m.ctime, 10)},
		{"DESCRIPTION", m.description},
		{"DISKTYPE", m.diskType},
		{"DOMAIN", m.domain},
		{"FORMAT", m.format},
		{"GEN", strconv.FormatInt(m.gen, 10)},
		{"IMAGE", m.image},
		{"LEGALITY", m.legality},
		{"PUUID", m.parent},
		{"SEQ", strconv.FormatInt(m.seq, 10)},
		{"TYPE", m.alloc},
		{"VOLTYPE", m.volType},
	} {
		out = append(append(append(append(out, kv[0]...), '='), kv[1]...), '\n')
	}
	out = append(out, "EOF\n"...)
	if len(out) > slotSize {
		return nil, fmt.Errorf("metadata of %d bytes does not fit %d; shorten name and description by %d bytes: %w",
			len(out), slotSize, len(out)-slotSize, ErrInvalid)
	}
	return out[:slotSize:slotSize], nil // made with that capacity, zero behind
}

// decodeSlot reads a slot of any version.
func decodeSlot(p []byte) (*slotMeta, error) {
	if len(p) > slotSize {
		p = p[:slotSize]
	}
	text := bytes.TrimRight(p, "\x00")
	if len(text) == 0 {
		return nil, ErrSlotEmpty
	}
	kv, err := slotKeys(text)
	if err != nil {
		return nil, err
	}
	if _, ok := kv["NONE"]; ok {
		return nil, ErrSlotCleared
	}
	return slotOfKeys(kv)
}

func slotKeys(text []byte) (map[string]string, error) {
	kv := make(map[string]string, 16)
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("EOF")) {
			break
		}
		k, v, ok := bytes.Cut(line, []byte("="))
		if !ok {
			continue
		}
		if !utf8.Valid(line) {
			return nil, fmt.Errorf("line %.40q is not UTF-8: %w", line, ErrSlotCorrupt)
		}
		kv[string(bytes.TrimSpace(k))] = string(bytes.TrimSpace(v))
	}
	return kv, nil
}

func slotOfKeys(kv map[string]string) (*slotMeta, error) {
	m := &slotMeta{
		description: kv["DESCRIPTION"], diskType: kv["DISKTYPE"], domain: kv["DOMAIN"], format: kv["FORMAT"],
		image: kv["IMAGE"], legality: kv["LEGALITY"], parent: kv["PUUID"], alloc: kv["TYPE"], volType: kv["VOLTYPE"],
	}
	for _, k := range [...]string{"CTIME", "DESCRIPTION", "DISKTYPE", "DOMAIN", "FORMAT", "IMAGE", "LEGALITY", "PUUID", "TYPE", "VOLTYPE"} {
		if _, ok := kv[k]; !ok {
			return nil, fmt.Errorf("key %s is missing: %w", k, ErrSlotCorrupt)
		}
	}
	for _, f := range [...]struct {
		key      string
		to       *int64
		optional bool
	}{{"CTIME", &m.ctime, false}, {"GEN", &m.gen, true}, {"SEQ", &m.seq, true}} {
		if err := slotNumber(kv, f.key, f.to, f.optional); err != nil {
			return nil, err
		}
	}
	return m, m.decodeCapacity(kv)
}

// decodeCapacity reads CAP, or SIZE in sectors where there is none: a volume may carry both after an upgrade.
func (m *slotMeta) decodeCapacity(kv map[string]string) error {
	if _, ok := kv["CAP"]; ok {
		return slotNumber(kv, "CAP", &m.capacity, false)
	}
	if err := slotNumber(kv, "SIZE", &m.capacity, false); err != nil {
		return err
	}
	if m.capacity < 0 || m.capacity > 1<<53 {
		return fmt.Errorf("SIZE %d is out of bounds: %w", m.capacity, ErrSlotCorrupt)
	}
	m.capacity *= 512
	return nil
}

func slotNumber(kv map[string]string, key string, to *int64, optional bool) error {
	s, ok := kv[key]
	if !ok {
		if optional {
			return nil
		}
		return fmt.Errorf("key %s is missing: %w", key, ErrSlotCorrupt)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("key %s is %.40q, not a number: %w", key, s, ErrSlotCorrupt)
	}
	*to = n
	return nil
}
