package lvm2

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CheckStrict tells whether every lvm2 accepts a text, those from 2.03.28 on with their shortcut parser included. It
// demands more than lvm2 does wherever the versions differ. It works on a tree of its own and shares nothing with
// ParseText but the splitting into keys and values. Errors are *CorruptError.
func CheckStrict(text []byte) error {
	if err := strictText(text); err != nil {
		return textError(err, int64(len(text)))
	}
	return nil
}

func strictText(text []byte) error {
	if err := strictBytes(text); err != nil {
		return err
	}
	s := string(text[:len(text)-1])
	brace := strings.LastIndex(s, "\n}\n")
	if brace < 0 {
		return fmt.Errorf("no closing brace of its own line")
	}
	if err := strictShape(s, brace); err != nil {
		return err
	}
	c := cursor{s: s[:brace+3]}
	name, k, err := c.next()
	if err != nil {
		return fmt.Errorf("the text does not begin with the volume group: %w", err)
	}
	if k != kindSection {
		return errors.New("the text does not begin with the volume group")
	}
	tree, err := parseSection(&c)
	if err != nil {
		return err
	}
	if c.pos != brace+2 {
		return &syntaxError{c.pos, "the volume group does not end at the last closing brace"}
	}
	if err := strictOuter(s[brace+3:]); err != nil {
		return err
	}
	return (&strictVG{name: name}).check(tree)
}

// strictBytes checks what needs no parsing.
func strictBytes(text []byte) error {
	n := len(text)
	switch {
	case n < 2 || text[n-1] != 0:
		return fmt.Errorf("the text does not end with a NUL")
	case bytes.IndexByte(text, 0) != n-1:
		return &syntaxError{bytes.IndexByte(text, 0), "NUL inside the text"}
	case bytes.IndexByte(text, '\r') >= 0:
		return &syntaxError{bytes.IndexByte(text, '\r'), "carriage return"}
	case !isAlnum(text[0]) && strings.IndexByte("+_.", text[0]) < 0:
		return &syntaxError{0, "the text does not begin with a name"}
	}
	return nil
}

// strictShape does what the shortcut parser does: read up to the end of physical_volumes, go to the last brace.
func strictShape(s string, brace int) error {
	pvs := strings.Index(s, "\nphysical_volumes {\n")
	if pvs < 0 || pvs > brace {
		return fmt.Errorf("no physical_volumes before the last closing brace")
	}
	head := s[:pvs]
	for _, key := range [...]string{"id", "seqno", "status"} {
		if !strings.Contains(head, "\n"+key+" = ") {
			return fmt.Errorf("%s does not stand before physical_volumes", key)
		}
	}
	return nil
}

// strictOuter checks the lines behind the volume group.
func strictOuter(s string) error {
	c := cursor{s: s}
	tree, err := parseSection(&c)
	if err != nil {
		return err
	}
	t := strictTree{tree, "text"}
	if err := t.unique(); err != nil {
		return err
	}
	want := map[string]string{"contents": quote(contents), "version": "1"}
	for key, raw := range want {
		if i := tree.find(key); i < 0 || tree.items[i].raw != raw {
			return fmt.Errorf("%s is missing or wrong", key)
		}
	}
	for _, it := range tree.items {
		if it.sub != nil {
			return fmt.Errorf("section %s behind the volume group", it.key)
		}
	}
	return t.need("creation_host", "creation_time")
}

// strictTree is a section with the name that errors give it.
type strictTree struct {
	*section
	name string
}

// unique refuses keys that stand twice, and control characters in values other than the newlines of lists.
func (t strictTree) unique() error {
	seen := map[string]bool{}
	for _, it := range t.items {
		if seen[it.key] {
			return fmt.Errorf("%s: %s stands twice", t.name, it.key)
		}
		seen[it.key] = true
	}
	return nil
}

// need refuses a section without one of the keys.
func (t strictTree) need(keys ...string) error {
	for _, k := range keys {
		if i := t.find(k); i < 0 || t.items[i].sub != nil {
			return fmt.Errorf("%s: no %s", t.name, k)
		}
	}
	return nil
}

// num reads an integer that must be in range and written without a leading zero.
func (t strictTree) num(key string, low, high int64) (int64, error) {
	i := t.find(key)
	if i < 0 {
		return 0, fmt.Errorf("%s: no %s", t.name, key)
	}
	raw := t.items[i].raw
	if len(raw) > 1 && raw[0] == '0' {
		return 0, fmt.Errorf("%s: %s = %s would be octal", t.name, key, raw)
	}
	n, err := parseRange(raw, low, high)
	if err != nil {
		return 0, fmt.Errorf("%s: %s: %w", t.name, key, err)
	}
	return n, nil
}

// words reads a list of strings; without the key it is empty.
func (t strictTree) words(key string) ([]string, error) {
	i := t.find(key)
	if i < 0 {
		return nil, nil
	}
	raw := t.items[i].raw
	if raw == "" || raw[0] != '[' {
		return nil, fmt.Errorf("%s: %s is not a list", t.name, key)
	}
	list, err := parseStrings(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", t.name, key, err)
	}
	return list, nil
}

// id reads the id.
func (t strictTree) id() (string, error) {
	i := t.find("id")
	if i < 0 {
		return "", fmt.Errorf("%s: no id", t.name)
	}
	id, err := parseID(t.items[i].raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", t.name, err)
	}
	return id, nil
}

// common checks what groups, physical and logical volumes have in common: keys, status words, tags.
func (t strictTree) common(known []string) error {
	if err := t.unique(); err != nil {
		return err
	}
	status, err := t.words("status")
	if err != nil {
		return err
	}
	for _, s := range status {
		if !slices.Contains(known, s) {
			return fmt.Errorf("%s: status %s is not known", t.name, s)
		}
	}
	if _, err := t.words("flags"); err != nil {
		return err
	}
	tags, err := t.words("tags")
	if err != nil {
		return err
	}
	for i, tag := range tags {
		if err := CheckTag(tag); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if slices.Contains(tags[:i], tag) {
			return fmt.Errorf("%s: tag %s stands twice", t.name, tag)
		}
	}
	if i := t.find("tags"); i >= 0 && len(tags) == 0 {
		return fmt.Errorf("%s: empty list of tags", t.name)
	}
	return nil
}
