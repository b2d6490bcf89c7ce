package testutil

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports come in blocks below those that the kernel gives to outgoing connections, so that none of these takes a port between
// its choice and its use. The process that listens on the first port of a block has the others for itself.
const (
	firstPort = 10000
	lastPort  = 20000 // pools of `holdfast dev` take theirs from here on
	blockSize = 100
)

var ports struct {
	mu     sync.Mutex     // guards what follows
	blocks []net.Listener // kept until the process ends: they are what reserves the blocks
	next   int            // the port to try next
	end    int            // behind the last one of the newest block
}

// FreePort returns a TCP and UDP port of 127.0.0.1 that nobody else gets: no other test, no other process of tests, and no
// connection. Whoever can pass port 0 itself should.
func FreePort(t testing.TB) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for {
		for ; ports.next < ports.end; ports.next++ {
			if free(ports.next) {
				ports.next++
				return ports.next - 1
			}
		}
		if err := takeBlock(); err != nil {
			t.Fatalf("find a free port: %v", err)
		}
	}
}

// takeBlock reserves another block; the caller holds mu. The blocks before stay reserved.
func takeBlock() error {
	const blocks = (lastPort - firstPort) / blockSize
	for _, i := range rand.Perm(blocks) {
		first := firstPort + i*blockSize
		l, err := net.Listen("tcp", local(first)) //nolint:noctx // does not wait
		if err != nil {
			continue // another process has it
		}
		ports.blocks, ports.next, ports.end = append(ports.blocks, l), first+1, first+blockSize
		return nil
	}
	return fmt.Errorf("none of %d blocks of ports from %d on is free", blocks, firstPort)
}

// free tells whether nobody listens on a port, for TCP and for UDP.
func free(port int) bool {
	l, err := net.Listen("tcp", local(port)) //nolint:noctx // does not wait
	if err != nil {
		return false
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", local(port)) //nolint:noctx // does not wait
	if err != nil {
		return false
	}
	return p.Close() == nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
