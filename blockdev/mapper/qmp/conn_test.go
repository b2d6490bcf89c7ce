package qmp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// script is a QEMU that says what it is told: one text for the greeting, and one for each line that it hears. Without a greeting it
// hangs up at once.
func script(t testing.TB, greet string, answers ...string) net.Conn {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		if _, err := io.WriteString(theirs, greet); err != nil || greet == "" {
			return
		}
		r := bufio.NewReader(theirs)
		for _, a := range answers {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			if _, err := io.WriteString(theirs, a); err != nil || a != "" && !strings.HasSuffix(a, "\n") {
				return // after half a line it hangs up
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	t.Cleanup(func() { ours.Close(); <-done })
	return ours
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

const yes = `{"return": {}, "id": 1}` + "\n"

func TestConn_hostile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		greet, capabilities, answer string
		want                        error
	}{
		"hangs up":           {"", "", "", io.EOF},
		"no JSON":            {hello, yes, "hello\n", ErrProtocol},
		"half a line":        {hello, yes, `{"return": `, ErrClosed},
		"two things":         {hello, yes, `{"return": {}, "error": {"class": "x"}, "id": 2}` + "\n", ErrProtocol},
		"nothing":            {hello, yes, `{"id": 2}` + "\n", ErrProtocol},
		"another type":       {hello, yes, `{"return": {"a": 1}, "id": 2}` + "\n", ErrProtocol},
		"no node":            {hello, yes, `{"return": [{"node-name": "x"}], "id": 2}` + "\n", ErrNoNode},
		"a negative offset":  {hello, yes, `{"return": [{"node-name": "dev", "stats": {"wr_highest_offset": -1}}], "id": 2}` + "\n", ErrProtocol},
		"a huge offset":      {hello, yes, `{"return": [{"node-name": "dev", "stats": {"wr_highest_offset": 18446744073709551615}}], "id": 2}` + "\n", ErrProtocol},
		"an endless line":    {hello, yes, `{"return": "` + strings.Repeat("x", maxLine+(128<<10)), ErrProtocol},
		"greets wrongly":     {yes, "", "", ErrProtocol},
		"greets with a line": {strings.Repeat("x", maxLine+(128<<10)), "", "", ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := handshake(soon(t), script(t, c.greet, c.capabilities, c.answer))
			if err == nil {
				defer conn.Close()
				_, err = conn.Highest(soon(t), "dev")
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestConn_refusal(t *testing.T) {
	t.Parallel()
	c, err := handshake(soon(t), script(t, hello, yes, `{"id": 2, "error": {"class": "GenericError", "desc": "Cannot find it"}}`+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var refused *Error
	if err := c.Snapshot(soon(t), "a", "b"); !errors.As(err, &refused) || err.Error() != "qemu: blockdev-snapshot: Cannot find it" || errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Errorf("%v", err)
	}
}

// A late answer is not taken for that of the next command.
func TestConn_lateAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nc := script(t, hello, yes, "", `{"return": "late", "id": 2}`+"\n"+`{"return": "right", "id": 3}`+"\n")
		c, err := handshake(soon(t), nc)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var out string
		if err := c.Execute(ctx, "first", nil, &out); !errors.Is(err, blockdev.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := c.Execute(soon(t), "second", nil, &out); err != nil || out != "right" {
			t.Errorf("%q, %v", out, err)
		}
	})
}

// Somebody else holds the monitor: QEMU says nothing.
func TestConn_silentGreeting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := handshake(ctx, script(t, "\n")); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "hold the monitor") || time.Since(begin) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestConn_needsDeadline(t *testing.T) {
	t.Parallel()
	if _, err := Dial(t.Context(), "/nowhere"); !errors.Is(err, blockdev.ErrNoDeadline) {
		t.Errorf("%v", err)
	}
	c, err := handshake(soon(t), script(t, hello, yes))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Execute(t.Context(), "x", nil, nil); !errors.Is(err, blockdev.ErrNoDeadline) {
		t.Errorf("%v", err)
	}
}

// What is under way when QEMU dies may have happened; what comes after surely not.
func TestConn_dies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nc := script(t, hello, yes)
		c, err := handshake(soon(t), nc)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Execute(soon(t), "cont", nil, nil) }()
		synctest.Wait()
		nc.Close()
		if err := <-done; !errors.Is(err, blockdev.ErrOutcomeUnknown) || !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
		if err := c.Execute(soon(t), "cont", nil, nil); errors.Is(err, blockdev.ErrOutcomeUnknown) || !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
		if _, ok := <-c.Events(); ok {
			t.Error("an event of a dead connection")
		}
		c.Close()
	})
}

// Events that nobody reads cost their oldest, not the connection.
func TestConn_flood(t *testing.T) {
	t.Parallel()
	var flood bytes.Buffer
	for i := range maxEvents + 10 {
		fmt.Fprintf(&flood, `{"event": "E%d"}`+"\n", i)
	}
	flood.WriteString(`{"return": {}, "id": 2}` + "\n")
	c, err := handshake(soon(t), script(t, hello, yes, flood.String()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Execute(soon(t), "x", nil, nil); err != nil {
		t.Fatal(err)
	}
	if e := <-c.Events(); e.Name != "E10" || c.Lost() != 10 {
		t.Errorf("%s, %d lost", e.Name, c.Lost())
	}
}

// FuzzConn lets QEMU say anything: no panic, no hang, and every call gets an answer or an error.
func FuzzConn(f *testing.F) {
	f.Add([]byte(`{"return": [{"node-name": "dev", "stats": {"wr_highest_offset": 1}}], "id": 2}` + "\n"))
	f.Add([]byte(`{"event": "BLOCK_WRITE_THRESHOLD", "data": {"node-name": "dev", "amount-exceeded": 1, "write-threshold": 18446744073709551615}}` + "\n"))
	f.Add([]byte(`{"event": "BLOCK_IO_ERROR", "data": {"node-name": "fmt", "nospace": true, "action": "stop"}}` + "\n" + `{"return": null, "id": 2}` + "\n"))
	f.Add([]byte(`{"error": {"class": "CommandNotFound", "desc": ""}, "id": 2}` + "\n\r\n\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := &Volume{cfg: VolumeConfig{Node: "dev", Above: []string{"fmt"}, AllocatedBytes: 1, MaxBytes: 2}, mon: &Monitor{}}
		v.book = newBook(v.cfg)
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer theirs.Close()
			r := bufio.NewReader(theirs)
			for _, s := range [][]byte{[]byte(hello), []byte(yes), b} {
				if len(s) > 0 && bytes.Equal(s, []byte(hello)) {
					_, _ = theirs.Write(s)
					continue
				}
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				if _, err := theirs.Write(s); err != nil {
					return
				}
			}
		}()
		c, err := handshake(soon(t), ours)
		if err == nil {
			if high, err := c.Highest(soon(t), "dev"); err == nil && high < 0 {
				t.Errorf("highest offset %d", high)
			}
			_ = c.Close()
			for e := range c.Events() {
				_, _ = v.happened(e)
			}
		}
		<-done
		if s := v.Status(); s.HighBytes < 0 || s.Waiting < 0 {
			t.Errorf("%+v", s)
		}
	})
}
