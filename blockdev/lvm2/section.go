package lvm2

import "strings"

// item is one entry of a section: a value as it stands in the text, or a section of its own.
type item struct {
	key   string
	raw   string   // text of the value
	sub   *section // or the section
	blank bool     // an empty line stands before it
}

// section is a piece of text as a tree, for edits and for the strict checker. It keeps what it does not know.
type section struct {
	items []item
}

// parseSection reads the rest of the section the cursor is in, or of the whole text at depth 0.
func parseSection(c *cursor) (*section, error) {
	s := &section{}
	for {
		key, k, err := c.next()
		if err != nil {
			return nil, err
		}
		it := item{key: key, blank: c.blank}
		switch k {
		case kindEnd:
			return s, nil
		case kindValue:
			it.raw, err = c.value()
		case kindSection:
			it.sub, err = parseSection(c)
		}
		if err != nil {
			return nil, err
		}
		s.items = append(s.items, it)
	}
}

// parseOne reads a text that consists of one named section.
func parseOne(text string) (string, *section, error) {
	c := cursor{s: text}
	name, k, err := c.next()
	if err != nil {
		return "", nil, err
	}
	if k != kindSection {
		return "", nil, c.fail("not a section")
	}
	s, err := parseSection(&c)
	return name, s, err
}

// find returns the position of a key, -1 without one.
func (s *section) find(key string) int {
	for i := range s.items {
		if s.items[i].key == key {
			return i
		}
	}
	return -1
}

// set replaces the value of a key, or inserts it behind the first of the keys in after that exists.
func (s *section) set(key, raw string, after ...string) {
	if i := s.find(key); i >= 0 {
		s.items[i].raw = raw
		return
	}
	at := len(s.items)
	for _, a := range after {
		if i := s.find(a); i >= 0 {
			at = i + 1
			break
		}
	}
	s.items = append(s.items[:at:at], append([]item{{key: key, raw: raw}}, s.items[at:]...)...)
}

// remove drops a key.
func (s *section) remove(key string) {
	if i := s.find(key); i >= 0 {
		s.items = append(s.items[:i:i], s.items[i+1:]...)
	}
}

// print writes a named section in lvm2's form, without a newline at the end.
func (s *section) print(name string) string {
	var b strings.Builder
	s.write(&b, name)
	return b.String()
}

func (s *section) write(b *strings.Builder, name string) {
	b.WriteString(printKey(name))
	b.WriteString(" {\n")
	for _, it := range s.items {
		if it.blank {
			b.WriteByte('\n')
		}
		if it.sub != nil {
			it.sub.write(b, it.key)
		} else {
			b.WriteString(printKey(it.key))
			b.WriteString(" = ")
			b.WriteString(it.raw)
		}
		b.WriteByte('\n')
	}
	b.WriteByte('}')
}

// printKey writes a key, in quotes where it could not be read back without.
func printKey(key string) string {
	for i := range len(key) {
		if !keyChar[key[i]] {
			return quote(key)
		}
	}
	if key == "" {
		return `""`
	}
	return key
}
