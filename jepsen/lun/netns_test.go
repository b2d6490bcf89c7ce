package lun

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// TestListenIn: a LUN in another namespace is reached from there, and only from there; the server's thread comes back.
func TestListenIn(t *testing.T) {
	t.Parallel()
	testutil.NeedRoot(t)
	testutil.NeedTool(t, "ip", "qemu-img")
	ns := fmt.Sprintf("hflun%d", os.Getpid())
	testutil.Run(t, "ip", "netns", "add", ns)
	t.Cleanup(func() { netnsDel(t, ns) })
	testutil.Run(t, "ip", "-n", ns, "link", "set", "lo", "up")
	// The port is one that nobody has in the test's own namespace.
	addr := fmt.Sprintf("127.0.0.1:%d", testutil.FreePort(t))
	ln, err := ListenIn(ns, addr)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, 1<<20)
	r.Attach("far", ln)
	if out := testutil.Run(t, "ip", "netns", "exec", ns, "qemu-img", "info", "-f", "raw", "nbd://"+addr+"/lun"); !strings.Contains(out, "1048576") {
		t.Error(out)
	}
	if c, err := net.Dial("tcp", addr); err == nil { //nolint:noctx // refused at once
		c.Close()
		t.Error("the socket is in the test's own namespace")
	}
	r.open("a") // this goroutine and its like are still at home
	if r.Path("far").Host() != "far" {
		t.Error("no path")
	}
}

// netnsDel must not use the test's context, which has ended in a cleanup.
func netnsDel(t *testing.T, ns string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", "netns", "del", ns).CombinedOutput(); err != nil {
		t.Errorf("ip netns del %s: %v: %s", ns, err, out)
	}
}

func TestListenIn_refused(t *testing.T) {
	t.Parallel()
	for _, ns := range []string{"", "..", "a/b", "/run/netns/x"} {
		if ln, err := ListenIn(ns, "127.0.0.1:0"); err == nil {
			ln.Close()
			t.Errorf("%q is a name", ns)
		}
	}
	if ln, err := ListenIn("no-such-namespace", "127.0.0.1:0"); err == nil {
		ln.Close()
		t.Error("a namespace that is not there")
	}
}
