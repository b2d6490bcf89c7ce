package pool

import (
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"
)

// short is long enough for a packet between namespaces, and a wait for one that does not come.
const (
	short = 400 * time.Millisecond
	long  = 10 * time.Second
)

func at(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }

// udp is a socket in a host's namespace.
func udp(t *testing.T, p *Pool, host string, port int) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	in(t, p.Namespace(host), func() (err error) {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(t.Context(), "udp", at(addrOf(p, host), port))
		return err
	})
	t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(long))
	return c
}

func addrOf(p *Pool, host string) string {
	h, _ := p.host(host)
	return h.addr
}

func send(t *testing.T, from, to net.PacketConn, text string) {
	t.Helper()
	if _, err := from.WriteTo([]byte(text), to.LocalAddr()); err != nil {
		t.Fatalf("sending %q: %v; a lost packet must not be told to its sender", text, err)
	}
}

// comes asserts what the next packet is.
func comes(t *testing.T, c net.PacketConn, want string) {
	t.Helper()
	b := make([]byte, 64)
	n, _, err := c.ReadFrom(b)
	if err != nil || string(b[:n]) != want {
		t.Fatalf("got %q, %v; want %q", b[:n], err, want)
	}
}

func TestBlock_everythingOneWay(t *testing.T) {
	t.Parallel()
	p := bare(t, 3)
	a, b, c := udp(t, p, "h1", 9999), udp(t, p, "h2", 9999), udp(t, p, "h3", 9999)
	send(t, a, b, "before")
	comes(t, b, "before")
	if err := errors.Join(p.Block("h1", "h2", All), p.Block("h1", "h2", All)); err != nil {
		t.Fatal(err)
	}
	send(t, a, b, "lost")
	send(t, b, a, "back")
	comes(t, a, "back")
	send(t, a, c, "third")
	comes(t, c, "third")
	if err := p.MendNetwork(); err != nil {
		t.Fatal(err)
	}
	send(t, a, b, "after")
	comes(t, b, "after") // had the lost one arrived, it would be first
}

func TestBlock_gossipOnly(t *testing.T) {
	t.Parallel()
	p := bare(t, 2)
	a, b := udp(t, p, "h1", gossipPort), udp(t, p, "h2", gossipPort)
	oa, ob := udp(t, p, "h1", 9999), udp(t, p, "h2", 9999)
	listen(t, p.Namespace("h2"), at(addrOf(p, "h2"), gossipPort))
	listen(t, p.Namespace("h2"), at(addrOf(p, "h2"), raftPort))
	if err := p.Block("h1", "h2", Gossip); err != nil {
		t.Fatal(err)
	}
	send(t, a, b, "lost")
	send(t, b, a, "back")
	comes(t, a, "back")
	send(t, oa, ob, "other port")
	comes(t, ob, "other port")
	if reaches(p.Namespace("h1"), at(addrOf(p, "h2"), gossipPort), short) == nil {
		t.Error("TCP to the gossip port passes")
	}
	if err := reaches(p.Namespace("h1"), at(addrOf(p, "h2"), raftPort), long); err != nil {
		t.Errorf("Raft is blocked too: %v", err)
	}
	if err := p.MendNetwork(); err != nil {
		t.Fatal(err)
	}
	send(t, a, b, "after")
	comes(t, b, "after")
}

// What was connected before goes on one way: bytes arrive, their answers do not, until the network is mended.
func TestBlock_raftOnlyOneWay(t *testing.T) {
	t.Parallel()
	p := bare(t, 3)
	listen(t, p.Namespace("h1"), at(addrOf(p, "h1"), raftPort))
	for _, h := range []string{"h2", "h3"} {
		listen(t, p.Namespace(h), at(addrOf(p, h), raftPort))
	}
	listen(t, p.Namespace("h2"), at(addrOf(p, "h2"), gossipPort))
	var c net.Conn
	in(t, p.Namespace("h2"), func() (err error) {
		var d net.Dialer
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		c, err = d.DialContext(ctx, "tcp", at(addrOf(p, "h1"), raftPort))
		return err
	})
	defer c.Close()
	exchange(t, c, "one", long)
	if err := p.Block("h1", "h2", Raft); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(short))
	if n, err := c.Read(make([]byte, 8)); err == nil {
		t.Fatalf("an answer of %d bytes came through", n)
	}
	if reaches(p.Namespace("h1"), at(addrOf(p, "h2"), raftPort), short) == nil {
		t.Error("a new connection passes")
	}
	for _, ok := range []string{at(addrOf(p, "h3"), raftPort), at(addrOf(p, "h2"), gossipPort)} {
		if err := reaches(p.Namespace("h1"), ok, long); err != nil {
			t.Errorf("%s is blocked too: %v", ok, err)
		}
	}
	if err := p.MendNetwork(); err != nil {
		t.Fatal(err)
	}
	receive(t, c, "two", long)
}

func exchange(t *testing.T, c net.Conn, text string, wait time.Duration) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	receive(t, c, text, wait)
}

func receive(t *testing.T, c net.Conn, want string, wait time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 64)
	if n, err := c.Read(b); err != nil || string(b[:n]) != want {
		t.Fatalf("got %q, %v; want %q", b[:n], err, want)
	}
}

// The two networks of a host are independent of each other, and of those of other hosts.
func TestUnplug_cables(t *testing.T) {
	t.Parallel()
	p := bare(t, 2)
	listen(t, p.Namespace("h2"), at(addrOf(p, "h2"), 9999))
	for _, h := range p.hosts {
		listen(t, h.storageNS, h.serveAt)
	}
	check := func(when string, pool, storage bool) {
		t.Helper()
		wait := map[bool]time.Duration{true: long, false: short}
		if err := reaches(p.Namespace("h1"), at(addrOf(p, "h2"), 9999), wait[pool]); (err == nil) != pool {
			t.Errorf("%s, pool network of h1: %v", when, err)
		}
		if err := reaches(p.Namespace("h1"), p.hosts[0].serveAt, wait[storage]); (err == nil) != storage {
			t.Errorf("%s, storage network of h1: %v", when, err)
		}
		if err := reaches(p.Namespace("h2"), p.hosts[1].serveAt, long); err != nil {
			t.Errorf("%s, storage network of h2: %v", when, err)
		}
	}
	check("at first", true, true)
	must(t, p.Unplug("h1"))
	check("without the pool's cable", false, true)
	must(t, p.UnplugStorage("h1"))
	check("without both", false, false)
	must(t, p.Plug("h1"))
	check("without the LUN's cable", true, false)
	must(t, p.PlugStorage("h1"))
	check("at the end", true, true)
	must(t, p.Unplug("h1"))
	must(t, p.MendNetwork())
	check("mended", true, true)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBlock_refusals(t *testing.T) {
	t.Parallel()
	p := bare(t, 1)
	if err := p.Block("h1", "h9", All); !errors.Is(err, ErrNoHost) {
		t.Errorf("an unknown host: %v", err)
	}
	if p.Block("h1", "h1", All) == nil {
		t.Error("a host can be cut off from itself")
	}
	if err := p.Unplug("h9"); !errors.Is(err, ErrNoHost) {
		t.Errorf("an unknown host: %v", err)
	}
}
