package nbd

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The client and a server that is not ours understand each other.
func TestConn_qemu(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-nbd")
	dir, err := os.MkdirTemp("", "hfn") // short, for the socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file, socket := testutil.SparseFile(t, "disk", 1<<20), filepath.Join(dir, "s")
	server := testutil.Command(t, "qemu-nbd", "--format=raw", "--export-name=e", "--socket="+socket, file)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	uri := (&url.URL{Scheme: "nbd+unix", Path: "/e", RawQuery: "socket=" + socket}).String()
	ctx := testutil.Deadline(t)
	var c *Conn
	testutil.Retry(t, 30*time.Second, func() (err error) { c, err = Dial(ctx, uri); return err })
	if c.Size != 1<<20 {
		t.Errorf("size %d", c.Size)
	}
	got := make([]byte, 5)
	for _, err := range []error{c.Write(ctx, []byte("hello"), 4096), c.Flush(ctx), c.Read(ctx, got, 4096)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != "hello" {
		t.Errorf("read %q", got)
	}
	var refused *Error
	if err := c.Write(ctx, []byte("x"), 1<<20); !errors.As(err, &refused) || refused.Errno == 0 {
		t.Errorf("a write behind the end: %v", err)
	}
	if err := c.Read(ctx, got, 0); err != nil {
		t.Errorf("after an error: %v", err)
	}
	late, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Read(late, got, 0); err == nil || errors.As(err, &refused) {
		t.Errorf("a read that nobody waits for: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	_ = server.Wait() // it ends with its only client
}
