package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"
)

// What a connection is for: the first byte after the handshake.
const (
	protoRaft byte = 'R'
	protoHTTP byte = 'H'
	protoJoin byte = 'J'
)

// dialTimeout bounds connecting and the handshake together, whatever deadline the caller has.
const dialTimeout = 3 * time.Second

func dialTLS(ctx context.Context, n Network, address string, conf *tls.Config, proto byte) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := n.Dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%w: TLS with %s: %w", ErrUnreachable, address, err)
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetWriteDeadline(deadline) // cannot fail on an open connection; a closed one fails below
	if _, err := conn.Write([]byte{proto}); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, address, err)
	}
	_ = conn.SetWriteDeadline(time.Time{})
	return conn, nil
}

// DialJoin opens a connection for a join request. conf must check the server by the CA's hash.
func DialJoin(ctx context.Context, n Network, address string, conf *tls.Config) (*tls.Conn, error) {
	return dialTLS(ctx, n, address, conf, protoJoin)
}
