package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that Linux gives to outgoing connections (32768 and up by default): a pool that
// is not running must not lose its ports to some program's connection.
const (
	firstDevPort = 20000
	lastDevPort  = 32000
)

// errNoPort says that no free port was found.
var errNoPort = errors.New("no free loopback port found")

// pickPorts finds n different loopback ports that are free for TCP and UDP and not in taken.
func pickPorts(n int, taken map[int]bool) ([]int, error) {
	var ports []int
	for range 1000 {
		p := firstDevPort + rand.IntN(lastDevPort-firstDevPort)
		if taken[p] || portFree(p) != nil {
			continue
		}
		taken[p] = true
		if ports = append(ports, p); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("%w between %d and %d", errNoPort, firstDevPort, lastDevPort)
}

// portFree tries to bind a port both ways.
func portFree(port int) error {
	addr := loopback(port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return u.Close()
}

// checkPorts says which of a pool's ports somebody else has taken meanwhile.
func checkPorts(hosts []devMember) error {
	for _, h := range hosts {
		for _, p := range []int{h.Cluster, h.Gossip, h.HTTP} {
			if err := portFree(p); err != nil {
				return fmt.Errorf("port %d of host %s is in use by another program; stop it and start again: %w", p, h.Name, err)
			}
		}
	}
	return nil
}

// loopback is the address of a port on this machine.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
