package lun

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// netnsFolder is where the program ip keeps the names of network namespaces.
const netnsFolder = "/run/netns"

// ListenIn makes a listening TCP socket inside a named network namespace. It needs root. The address is a literal one: a
// name would be looked up outside.
func ListenIn(netns, addr string) (net.Listener, error) {
	if netns == "" || filepath.Base(netns) != netns || netns == ".." || netns == "." {
		return nil, fmt.Errorf("%q is no name of a network namespace: see ip netns list", netns)
	}
	type result struct {
		ln  net.Listener
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		ln, back, err := listenIn(netns, addr)
		if back {
			runtime.UnlockOSThread()
		} // otherwise the thread is in the wrong namespace and dies with this goroutine
		done <- result{ln, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("listening on %s in the network namespace %s: %w", addr, netns, r.err)
	}
	return r.ln, nil
}

// listenIn goes there, listens, and comes back. The caller has locked the thread. Without back, the thread must not be used.
func listenIn(netns, addr string) (ln net.Listener, back bool, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, true, err
	}
	defer home.Close()
	there, err := os.Open(filepath.Join(netnsFolder, netns))
	if err != nil {
		return nil, true, fmt.Errorf("make it with ip netns add: %w", err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, true, fmt.Errorf("entering it, which takes root: %w", err)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)                              // clients are plain TCP, and one path is what is cut
	ln, err = lc.Listen(context.Background(), "tcp", addr) // does not wait: the address is literal
	// The socket stays where it was made.
	return ln, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil, err
}
