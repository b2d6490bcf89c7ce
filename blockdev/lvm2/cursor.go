package lvm2

import (
	"fmt"
	"strings"
)

// cursor walks through a text item by item, without a tree and without copying. Values and keys are slices of the
// text.
type cursor struct {
	s     string
	pos   int
	depth int
	blank bool // an empty line stood before the last key
}

// maxDepth is far more than any real text has (five), and keeps hostile texts from using up the stack.
const maxDepth = 32

// kind is what next found.
type kind int

const (
	kindEnd     kind = iota // end of the text or of the section
	kindValue               // key = value; value() must follow
	kindSection             // key {; the cursor is inside now
)

// syntaxError says where a text cannot be read.
type syntaxError struct {
	off    int
	reason string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("byte %d: %s", e.off, e.reason) }

func (c *cursor) fail(format string, args ...any) error {
	return &syntaxError{c.pos, fmt.Sprintf(format, args...)}
}

// skip passes over white space and comments. A NUL ends the text.
func (c *cursor) skip() {
	lines := 0
	for ; c.pos < len(c.s); c.pos++ {
		switch ch := c.s[c.pos]; ch {
		case '\n':
			lines++
		case ' ', '\t', '\r', '\v', '\f':
		case '#':
			end := strings.IndexByte(c.s[c.pos:], '\n')
			if end < 0 {
				c.pos = len(c.s)
				return
			}
			c.pos += end
			lines++
		case 0:
			c.s = c.s[:c.pos]
			return
		default:
			c.blank = lines > 1
			return
		}
	}
}

// next reads the next key and what it introduces. At the end of a section it passes the closing brace.
func (c *cursor) next() (key string, k kind, err error) {
	c.skip()
	if c.pos >= len(c.s) {
		if c.depth > 0 {
			return "", kindEnd, c.fail("the text ends inside a section")
		}
		return "", kindEnd, nil
	}
	if c.s[c.pos] == '}' {
		if c.depth == 0 {
			return "", kindEnd, c.fail("closing brace without an opening one")
		}
		c.depth--
		c.pos++
		return "", kindEnd, nil
	}
	if key, err = c.key(); err != nil {
		return "", kindEnd, err
	}
	blank := c.blank
	c.skip()
	c.blank = blank
	switch {
	case c.pos >= len(c.s):
		return "", kindEnd, c.fail("the text ends behind key %q", key)
	case c.s[c.pos] == '=':
		c.pos++
		return key, kindValue, nil
	case c.s[c.pos] == '{' && c.depth < maxDepth:
		c.pos++
		c.depth++
		return key, kindSection, nil
	case c.s[c.pos] == '{':
		return "", kindEnd, c.fail("sections nested too deeply")
	}
	return "", kindEnd, c.fail("key %q is followed neither by '=' nor by '{'", key)
}

// key reads a key, bare or quoted.
func (c *cursor) key() (string, error) {
	if c.s[c.pos] == '"' || c.s[c.pos] == '\'' {
		raw, err := c.quoted()
		if err != nil {
			return "", err
		}
		return unquote(raw), nil
	}
	start := c.pos
	for c.pos < len(c.s) && keyChar[c.s[c.pos]] {
		c.pos++
	}
	if c.pos == start {
		return "", c.fail("unexpected %q", c.s[c.pos])
	}
	return c.s[start:c.pos], nil
}

// keyChar is true for bytes that may be part of a bare key.
var keyChar = func() (t [256]bool) {
	for i := 33; i < 256; i++ {
		t[i] = strings.IndexByte("#={}\"'", byte(i)) < 0
	}
	return t
}()

// quoted passes over a quoted string and returns it with its quotes.
func (c *cursor) quoted() (string, error) {
	start, q := c.pos, c.s[c.pos]
	for i := c.pos + 1; i < len(c.s); i++ {
		switch ch := c.s[i]; {
		case ch == q:
			c.pos = i + 1
			return c.s[start:c.pos], nil
		case ch == '\\' && q == '"':
			i++
		case ch == '\n' || ch == 0:
			return "", c.fail("string without an end")
		}
	}
	return "", c.fail("string without an end")
}

// value reads a number, a string or an array and returns its text as it stands.
func (c *cursor) value() (string, error) {
	c.skip()
	if c.pos >= len(c.s) {
		return "", c.fail("the text ends where a value should be")
	}
	if c.s[c.pos] != '[' {
		return c.scalar()
	}
	start := c.pos
	c.pos++
	for {
		c.skip()
		switch {
		case c.pos >= len(c.s):
			return "", c.fail("array without an end")
		case c.s[c.pos] == ']':
			c.pos++
			return c.s[start:c.pos], nil
		case c.s[c.pos] == ',':
			c.pos++
		default:
			if _, err := c.scalar(); err != nil {
				return "", err
			}
		}
	}
}

// scalar reads a number or a string and returns its text.
func (c *cursor) scalar() (string, error) {
	ch := c.s[c.pos]
	if ch == '"' || ch == '\'' {
		return c.quoted()
	}
	start := c.pos
	if ch == '-' || ch == '+' {
		c.pos++
	}
	for c.pos < len(c.s) && (c.s[c.pos] >= '0' && c.s[c.pos] <= '9' || c.s[c.pos] == '.') {
		c.pos++
	}
	if c.pos == start {
		return "", c.fail("unexpected %q where a value should be", ch)
	}
	return c.s[start:c.pos], nil
}

// skipSection passes over the rest of the section the cursor is in.
func (c *cursor) skipSection() error {
	for depth := c.depth; c.depth >= depth; {
		_, k, err := c.next()
		if err != nil {
			return err
		}
		if k == kindValue {
			if _, err := c.value(); err != nil {
				return err
			}
		}
	}
	return nil
}
