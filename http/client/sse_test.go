package client

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// all reads a stream to its end.
func all(r io.Reader) (l []message, err error) {
	d := newDecoder(r)
	for {
		m, err := d.next()
		if err != nil {
			return l, err
		}
		l = append(l, m)
	}
}

func TestDecoder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in, want string
	}{
		{"an event", "id: 4.0\ndata: {}\n\n", `[{ 4.0 {}}]`},
		{"a name", "event: gap\ndata: {}\n\n", `[{gap  {}}]`},
		{"the id stays", "id: 4.0\ndata: a\n\ndata: b\n\n", `[{ 4.0 a} { 4.0 b}]`},
		{"an id alone", "id: 4.0\n\ndata: b\n\n", `[{ 4.0 b}]`},
		{"an id taken back", "id: 4.0\ndata: a\n\nid\ndata: b\n\n", `[{ 4.0 a} {  b}]`},
		{"an id with NUL", "id: 4\x000\ndata: b\n\n", `[{  b}]`},
		{"a name without data is forgotten", "event: gap\n\ndata: a\n\n", `[{  a}]`},
		{"several lines", "data: a\ndata:  b\ndata\n\n", "[{  a\n b\n}]"},
		{"comments and unknown fields", ": hello\nretry: 5\nwhat: ever\ndata:a\n\n", `[{  a}]`},
		{"line ends", "data: a\r\n\r\ndata: b\r\rdata: c\n\n", `[{  a} {  b} {  c}]`},
		{"a mark at the beginning", "\ufeffdata: a\n\n", `[{  a}]`},
		{"cut off in a line", "data: a\n\ndata: b", `[{  a}]`},
		{"cut off between lines", "data: a\n\ndata: b\n", `[{  a}]`},
		{"nothing", "", `[]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				l, err := all(r)
				if got := fmt.Sprintf("%s", l); got != c.want || !errors.Is(err, io.EOF) {
					t.Errorf("%s, %v; not %s", got, err, c.want)
				}
			}
		})
	}
}

func TestDecoder_bounds(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"line":    "data: " + strings.Repeat("x", maxLine) + "\n\n",
		"message": strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", maxMessage/1000+1) + "\n",
	} {
		if l, err := all(strings.NewReader(in)); !errors.Is(err, errTooLong) || len(l) != 0 {
			t.Errorf("%s: %d messages, %v", name, len(l), err)
		}
	}
	broken := errors.New("broken")
	if _, err := all(io.MultiReader(strings.NewReader("data: a\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// Whatever a host sends, the decoder ends, keeps its bounds, and does not care how the bytes arrive.
func FuzzDecoder(f *testing.F) {
	for _, s := range []string{"id: 4.0\ndata: {\"id\":\"4.0\"}\n\n", "event: end\r\ndata: {}\r\n\r\n", ":\n\n\n", "\ufeffdata\rid: \x00\n\n", "data: a\ndata: b\n\nid: 1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, err := all(strings.NewReader(string(b)))
		bytewise, err2 := all(iotest.OneByteReader(strings.NewReader(string(b))))
		if !reflect.DeepEqual(whole, bytewise) || errors.Is(err, io.EOF) != errors.Is(err2, io.EOF) {
			t.Fatalf("%q %v, byte by byte %q %v", whole, err, bytewise, err2)
		}
		for _, m := range whole {
			if len(m.data) > maxMessage+len(b) || strings.ContainsAny(m.name+m.id, "\r\n") {
				t.Fatalf("%q", m)
			}
		}
	})
}
