package domain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds a volume's name in bytes; what fits next to it is bounded by the slot.
const maxName = 255

// diskDescription is the form in which oVirt's engine keeps a disk's name in a volume's metadata.
type diskDescription struct {
	Alias       string `json:"DiskAlias"`
	Description string `json:"DiskDescription"`
}

// encodeDescription makes the DESCRIPTION value of a volume.
func encodeDescription(name, description string) (string, error) {
	return encodeJSON(diskDescription{name, description})
}

func encodeJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the 512 bytes of a slot are dear
	if err := e.Encode(v); err != nil {
		return "", fmt.Errorf("encoding the description: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// decodeDescription reads a DESCRIPTION value. What is not the engine's JSON is a name as a whole.
func decodeDescription(s string) (name, description string) {
	if !strings.HasPrefix(s, "{") {
		return s, ""
	}
	var d struct {
		Alias       *string `json:"DiskAlias"`
		Description string  `json:"DiskDescription"`
		Other       string  `json:"Disk Description"` // the engine's OVF stores
	}
	if json.Unmarshal([]byte(s), &d) != nil {
		return s, ""
	}
	if d.Alias == nil {
		return d.Other, ""
	}
	return *d.Alias, d.Description
}

// editDescription changes name and description in a DESCRIPTION value. What else the engine's JSON holds stays.
func editDescription(old string, e VolumeEdit) (string, error) {
	name, description := decodeDescription(old)
	if e.Name != nil {
		name = *e.Name
	}
	if e.Description != nil {
		description = *e.Description
	}
	var keys map[string]json.RawMessage
	if !strings.HasPrefix(old, "{") || json.Unmarshal([]byte(old), &keys) != nil {
		keys = nil
	}
	text, err := encodeDescription(name, description)
	if err != nil {
		return "", err
	}
	var ours map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &ours); err != nil {
		return "", fmt.Errorf("encoding the description: %w", err)
	}
	more := false
	for k, v := range keys {
		if _, known := ours[k]; !known {
			ours[k], more = v, true
		}
	}
	if !more {
		return text, nil
	}
	return encodeJSON(ours)
}

// checkText refuses names and descriptions that would be mangled or mislead.
func checkText(what, s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8: %w", what, ErrInvalid)
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return fmt.Errorf("%s holds the control character %U: %w", what, r, ErrInvalid)
		}
	}
	return nil
}
