package transport

import (
	"context"
	"net"
)

// Network makes listeners and connections. Tests put a network in memory here, which they can cut.
type Network interface {
	Listen(address string) (net.Listener, error)
	Dial(ctx context.Context, address string) (net.Conn, error)
}

// TCP is the machine's own network.
type TCP struct{}

// Listen listens on a TCP address.
func (TCP) Listen(address string) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(context.Background(), "tcp", address) // nothing to wait for: addresses are numeric, or in the hosts file
}

// Dial connects to a TCP address.
func (TCP) Dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}
