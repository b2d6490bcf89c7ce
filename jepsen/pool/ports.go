package pool

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken from below the range that Linux gives to outgoing connections.
const (
	firstPort = 20000
	lastPort  = 32000
)

// ports are those that this process has given out.
var ports = struct {
	sync.Mutex
	taken map[int]bool
}{taken: map[int]bool{}}

// freePorts finds n loopback ports that are free for TCP and UDP, and gives none out twice.
func freePorts(n int) (found []int, err error) {
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		p := firstPort + rand.IntN(lastPort-firstPort)
		if ports.taken[p] || !portFree(p) {
			continue
		}
		ports.taken[p] = true
		if found = append(found, p); len(found) == n {
			return found, nil
		}
	}
	return nil, errors.New("no free loopback ports; end what takes them")
}

// portFree tries to bind a port both ways.
func portFree(port int) bool {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", addr) //nolint:noctx // binding does not wait
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr) //nolint:noctx // binding does not wait
	if err != nil {
		return false
	}
	return u.Close() == nil
}
