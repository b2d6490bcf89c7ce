package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wire listens to every packet on the loopback device, and keeps the payload of those from or to some ports.
type wire struct {
	fd    int
	ports map[uint16]bool
	done  chan struct{}

	mu    sync.Mutex // guards what follows
	bytes int
	seen  map[string]bool // words that went by in the clear
	words []string
	last  map[[2]uint16][]byte // end of the last payload of each direction, for words that lie in two packets
}

const lastBytes = 64

// tapWire begins to listen for words on ports. It skips the test where packets cannot be captured.
func tapWire(t *testing.T, ports []int, words ...string) *wire {
	t.Helper()
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Skipf("cannot capture packets: %v", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: 1}); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<20)
	tv := unix.NsecToTimeval(int64(20 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	w := &wire{fd: fd, ports: map[uint16]bool{}, done: make(chan struct{}), seen: map[string]bool{}, words: words, last: map[[2]uint16][]byte{}}
	for _, p := range ports {
		w.ports[uint16(p)] = true
	}
	stop := make(chan struct{})
	go w.run(stop)
	t.Cleanup(func() {
		close(stop)
		<-w.done
		_ = unix.Close(fd)
	})
	return w
}

func (w *wire) run(stop <-chan struct{}) {
	defer close(w.done)
	buf := make([]byte, 1<<17)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, _, err := unix.Recvfrom(w.fd, buf, 0)
		if err != nil {
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		w.packet(buf[:n])
	}
}

// packet looks at one IPv4 packet.
func (w *wire) packet(p []byte) {
	if len(p) < 20 || p[0]>>4 != 4 {
		return
	}
	proto, p := p[9], p[int(p[0]&15)*4:]
	if len(p) < 8 || (proto != unix.IPPROTO_TCP && proto != unix.IPPROTO_UDP) {
		return
	}
	way := [2]uint16{binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])}
	head := 8
	if proto == unix.IPPROTO_TCP {
		if len(p) < 20 {
			return
		}
		head = int(p[12]>>4) * 4
	}
	if !w.ports[way[0]] && !w.ports[way[1]] || len(p) <= head {
		return
	}
	w.payload(way, p[head:])
}

func (w *wire) payload(way [2]uint16, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes += len(p)
	text := append(w.last[way], p...)
	for _, word := range w.words {
		if bytes.Contains(text, []byte(word)) {
			w.seen[word] = true
		}
	}
	w.last[way] = bytes.Clone(text[max(0, len(text)-lastBytes):])
}

// heard is how much went by, and which words.
func (w *wire) heard() (int, map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]bool{}
	for k := range w.seen {
		seen[k] = true
	}
	return w.bytes, seen
}
