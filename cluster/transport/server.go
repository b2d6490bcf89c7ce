package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	Network Network // nil: TCP
	Listen  string  // address to listen on
	// Advertise is the address that the others dial; empty: the one listened on.
	Advertise string
	Certs     *Certs
	// Allow may refuse a host whose certificate is good, because it is no member any more. nil: all are allowed.
	Allow func(host string) error
	Log   *slog.Logger
}

// Server accepts the connections of other hosts and sorts them.
type Server struct {
	cfg  ServerConfig
	ln   net.Listener
	raft *RaftStream
	rpc  *queue
	join *queue

	mux     *http.ServeMux
	joinMux *http.ServeMux
	calls   sync.WaitGroup // requests being handled
}

// handshakeTimeout bounds the handshake and the first byte of an incoming connection; maxHandshakes how many may be at it.
const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 256
)

// NewServer listens. Nothing is accepted before Run.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Network == nil {
		cfg.Network = TCP{}
	}
	ln, err := cfg.Network.Listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening on the cluster address %s: %w", cfg.Listen, err)
	}
	advertise := ln.Addr()
	if cfg.Advertise != "" {
		advertise = address(cfg.Advertise)
	}
	return &Server{
		cfg: cfg, ln: ln,
		raft: newRaftStream(advertise, cfg.Network, cfg.Certs),
		rpc:  newQueue(ln.Addr()), join: newQueue(ln.Addr()),
		mux: http.NewServeMux(), joinMux: http.NewServeMux(),
	}, nil
}

// address is a host:port that is advertised, not listened on.
type address string

// Network names the kind of the address.
func (address) Network() string { return "tcp" }

// String is the address.
func (a address) String() string { return string(a) }

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Raft is the stream layer to build raft's transport on.
func (s *Server) Raft() *RaftStream { return s.raft }

// HandleHTTP serves forwarded API requests whose path begins with prefix. The peer's name is in From(r.Context()).
func (s *Server) HandleHTTP(prefix string, h http.Handler) { s.mux.Handle(prefix, h) }

// HandleJoin serves requests of hosts that are not members yet.
func (s *Server) HandleJoin(pattern string, h http.Handler) { s.joinMux.Handle(pattern, h) }

// Run serves until ctx ends, then closes everything and waits for it.
func (s *Server) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	rpc := s.httpServer(base, s.members(s.mux))
	join := s.httpServer(base, s.counted(s.joinMux))
	var wg sync.WaitGroup
	wg.Go(func() { _ = rpc.Serve(s.rpc) })   // always ErrServerClosed
	wg.Go(func() { _ = join.Serve(s.join) }) // or net.ErrClosed
	wg.Go(func() {
		<-base.Done()
		_ = s.ln.Close()
		_ = errors.Join(s.raft.Close(), s.rpc.Close(), s.join.Close(), rpc.Close(), join.Close())
	})
	err := s.accept(base, &wg)
	cancel()
	wg.Wait()
	s.calls.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Close releases the address of a server that never ran. It does nothing else.
func (s *Server) Close() error { return s.ln.Close() }

func (s *Server) httpServer(base context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) accept(ctx context.Context, wg *sync.WaitGroup) error {
	slots := make(chan struct{}, maxHandshakes)
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			if ctx.Err() == nil && isTemporary(err) && sleep(ctx, 50*time.Millisecond) {
				continue
			}
			return fmt.Errorf("accepting on the cluster address: %w", err)
		}
		slots <- struct{}{}
		wg.Go(func() {
			tc, proto, err := s.handshake(ctx, conn)
			<-slots
			if err != nil {
				_ = conn.Close()
				s.cfg.Log.Debug("cluster connection refused", "remote", conn.RemoteAddr().String(), "error", err)
				return
			}
			s.sort(tc, proto)
		})
	}
}

// isTemporary says whether accepting may work again, as it does when descriptors ran out.
func isTemporary(err error) bool { return !errors.Is(err, net.ErrClosed) }

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) handshake(ctx context.Context, raw net.Conn) (*tls.Conn, byte, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	conn := tls.Server(raw, s.cfg.Certs.Server())
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, 0, fmt.Errorf("handshake: %w", err)
	}
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil {
		return nil, 0, fmt.Errorf("first byte: %w", err)
	}
	if first[0] == protoJoin {
		return conn, first[0], nil
	}
	_, err := s.member(conn.ConnectionState())
	return conn, first[0], err
}

func (s *Server) sort(conn *tls.Conn, proto byte) {
	switch proto {
	case protoRaft:
		s.raft.push(conn)
	case protoHTTP:
		s.rpc.push(conn)
	case protoJoin:
		s.join.push(conn)
	default:
		_ = conn.Close()
	}
}

// member is the name of the host at the other end, if it is one and still allowed.
func (s *Server) member(cs tls.ConnectionState) (string, error) {
	name, err := PeerHost(cs)
	if err == nil && s.cfg.Allow != nil {
		err = s.cfg.Allow(name)
	}
	return name, err
}
