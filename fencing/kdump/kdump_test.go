package kdump

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// genuine is a message as fence_kdump_send made it on x86.
var genuine = []byte("@*0\x1b\x01\x00\x00\x00")

// start runs a listener on loopback until the test ends.
func start(t *testing.T) *Listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

func send(t *testing.T, l *Listener, from string, b []byte) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "udp", l.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func TestListener_onlyWatched(t *testing.T) {
	t.Parallel()
	l := start(t)
	host, other := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")
	if err := l.Watch(host); err != nil {
		t.Fatal(err)
	}
	send(t, l, "127.0.0.3", genuine)            // a stranger
	send(t, l, "127.0.0.2", []byte("garbage!")) // no message
	send(t, l, "127.0.0.2", append(genuine, 0)) // too long
	testutil.Retry(t, 30*time.Second, func() error {
		if l.Ignored() != 3 {
			return errors.New("not all heard yet")
		}
		return nil
	})
	if s := l.Seen(host, other); s.Count != 0 {
		t.Fatalf("took a stranger's word: %+v", s)
	}
	send(t, l, "127.0.0.2", genuine)
	s, ok, err := l.Await(testutil.Deadline(t), 30*time.Second, host)
	if err != nil || !ok || s.Count != 1 || s.First.IsZero() {
		t.Fatalf("%+v, %v, %v", s, ok, err)
	}
	if s := l.Seen(other); s.Count != 0 {
		t.Fatalf("%+v", s)
	}
	if err := l.Watch(host); err != nil || l.Seen(host).Count != 0 {
		t.Error("watching anew must forget the last crash")
	}
	l.Forget(host)
	if l.Seen(host).Count != 0 {
		t.Error("not forgotten")
	}
}

// The real sender.
func TestListener_fenceKdumpSend(t *testing.T) {
	t.Parallel()
	const program = "/usr/libexec/fence-agents/fence_kdump_send"
	if _, err := os.Stat(program); err != nil {
		testutil.NeedTool(t, program)
	}
	l := start(t)
	host := netip.MustParseAddr("127.0.0.1")
	if err := l.Watch(host); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	testutil.Run(t, program, "-p", port, "-c", "1", "-i", "1", "127.0.0.1")
	if s, ok, err := l.Await(testutil.Deadline(t), 30*time.Second, host); err != nil || !ok {
		t.Fatalf("%+v, %v", s, err)
	}
}

// bare is a listener without a socket, for virtual time.
func bare(t *testing.T, addr netip.Addr) *Listener {
	t.Helper()
	l := &Listener{watched: map[netip.Addr]*Sighting{}, news: make(chan struct{})}
	if err := l.Watch(addr); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListener_times(t *testing.T) {
	t.Parallel()
	host := netip.MustParseAddr("10.0.0.1")
	from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 999))
	synctest.Test(t, func(t *testing.T) {
		l, begun := bare(t, host), time.Now()
		if _, ok, err := l.Await(t.Context(), 30*time.Second, host); ok || err != nil || time.Since(begun) != 30*time.Second {
			t.Fatalf("%v, %v after %s", ok, err, time.Since(begun))
		}
		if _, ok, err := l.Finished(t.Context(), time.Minute, time.Hour, host); !ok || err != nil {
			t.Fatal("nothing heard is finished")
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 10 {
				time.Sleep(5 * time.Second)
				l.heard(from, genuine)
			}
		}()
		begun = time.Now()
		if s, ok, err := l.Await(t.Context(), 30*time.Second, host); !ok || err != nil || time.Since(begun) != 5*time.Second {
			t.Fatalf("%+v, %v, %v", s, ok, err)
		}
		if s, ok, err := l.Finished(t.Context(), 20*time.Second, time.Hour, host); !ok || err != nil || s.Count != 10 || time.Since(begun) != 70*time.Second {
			t.Fatalf("%+v, %v, %v after %s", s, ok, err, time.Since(begun))
		}
		<-done
	})
}

// A forger who sends for ever delays fencing no longer than the limit.
func TestListener_Finished_bounded(t *testing.T) {
	t.Parallel()
	host := netip.MustParseAddr("10.0.0.1")
	from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 999))
	synctest.Test(t, func(t *testing.T) {
		l := bare(t, host)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				l.heard(from, genuine)
				time.Sleep(time.Second)
			}
		}()
		synctest.Wait()
		begun := time.Now()
		if s, ok, err := l.Finished(ctx, time.Minute, 10*time.Minute, host); ok || err != nil || time.Since(begun) != 10*time.Minute {
			t.Errorf("%+v, %v, %v after %s", s, ok, err, time.Since(begun))
		}
		cancel()
		<-done
	})
}

func TestListener_ended(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	l, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := l.Await(t.Context(), time.Hour, netip.MustParseAddr("10.0.0.1")); ok || err == nil {
		t.Fatal("a listener that ended hears nothing, and must say so")
	}
}

func TestListener_Watch_bounded(t *testing.T) {
	t.Parallel()
	l := bare(t, netip.MustParseAddr("10.0.0.1"))
	var many []netip.Addr
	for i := range maxHosts {
		many = append(many, netip.MustParseAddr("10.1."+strconv.Itoa(i/256)+"."+strconv.Itoa(i%256)))
	}
	if err := l.Watch(many...); err == nil {
		t.Fatal("no bound")
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(genuine)
	f.Add([]byte("\x1b0*@\x00\x00\x00\x01"))
	f.Add([]byte("@*0\x1b\x02\x00\x00\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if message(b) && string(b) != string(genuine) && string(b) != "\x1b0*@\x00\x00\x00\x01" {
			t.Fatalf("took %x", b)
		}
	})
}
