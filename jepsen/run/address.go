package main

import (
	"net"
	"path/filepath"

	"github.com/holdfast-io/holdfast/jepsen/lun"
	"github.com/holdfast-io/holdfast/jepsen/nemesis"
)

// listen makes the LUN's server's socket, in a host's network namespace or as a unix socket.
func listen(ns, addr string) (net.Listener, error) {
	if ns == "" {
		return net.Listen("unix", addr) //nolint:noctx // binding does not wait
	}
	return lun.ListenIn(ns, addr)
}

// address is where a host's agent answers root.
func (r *runner) address(host string) string {
	return "unix://" + filepath.Join(r.dir, host, "api.sock")
}

// abilities are what faults may need and this harness has.
func abilities(plain, fencing bool) []nemesis.Ability {
	has := []nemesis.Ability{nemesis.HasLUN, nemesis.HasClock}
	if !plain {
		has = append(has, nemesis.HasNetwork, nemesis.HasDisk)
	}
	if fencing {
		has = append(has, nemesis.HasPower)
	}
	return has
}
