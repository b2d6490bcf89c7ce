package lvm2

import (
	"fmt"
	"strconv"
	"strings"
)

// parseInt decodes an integer as lvm2 does: a leading zero means octal.
func parseInt(raw string) (int64, error) {
	digits, base := strings.TrimPrefix(raw, "-"), 10
	if len(digits) > 1 && digits[0] == '0' {
		base = 8
	}
	n, err := strconv.ParseInt(raw, base, 64)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not an integer", raw)
	}
	return n, nil
}

// parseString decodes a quoted string.
func parseString(raw string) (string, error) {
	if len(raw) < 2 || raw[0] != '"' && raw[0] != '\'' {
		return "", fmt.Errorf("%.40q is not a string", raw)
	}
	return unquote(raw), nil
}

// unquote removes quotes and escapes. It copies only when there are escapes.
func unquote(raw string) string {
	body := raw[1 : len(raw)-1]
	if raw[0] == '\'' || strings.IndexByte(body, '\\') < 0 {
		return body
	}
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		if body[i] == '\\' && i+1 < len(body) {
			i++
		}
		b.WriteByte(body[i])
	}
	return b.String()
}

// quote writes a string the way lvm2 does.
func quote(s string) string {
	if !strings.ContainsAny(s, `"\`) {
		return `"` + s + `"`
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// elements calls f with the text of every element of an array; a scalar is an array of one.
func elements(raw string, f func(string) error) error {
	if raw == "" || raw[0] != '[' {
		return f(raw)
	}
	c := cursor{s: raw, pos: 1}
	for {
		c.skip()
		switch {
		case c.pos >= len(c.s):
			return c.fail("array without an end")
		case c.s[c.pos] == ']':
			return nil
		case c.s[c.pos] == ',':
			c.pos++
			continue
		}
		v, err := c.scalar()
		if err != nil {
			return err
		}
		if err := f(v); err != nil {
			return err
		}
	}
}

// parseStrings decodes an array of strings.
func parseStrings(raw string) ([]string, error) {
	if raw == "[]" {
		return nil, nil
	}
	out := make([]string, 0, strings.Count(raw, ",")+1)
	err := elements(raw, func(v string) error {
		s, err := parseString(v)
		out = append(out, s)
		return err
	})
	return out, err
}

// quoteAll writes an array of strings the way lvm2 does.
func quoteAll(list []string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, s := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(s))
	}
	b.WriteByte(']')
	return b.String()
}
