//go:build vmtest

package pool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	envWriter = "HOLDFAST_VM_WRITER" // path of the device, path of the board
	envStride = "HOLDFAST_VM_STRIDE"
	ioBlock   = 64 << 10
	slots     = 512
	firstSlot = 1 << 20 // behind the qcow2 header
)

// board is memory that a writer and the test share: a writer whose device is frozen answers nobody.
type board struct {
	writes atomic.Uint64        // in all
	errno  atomic.Uint64        // of the write that failed; the writer has ended
	stop   atomic.Uint64        // 1: it is to end
	size   atomic.Uint64        // of the device, as it saw it last
	rounds [slots]atomic.Uint64 // the last acknowledged write of each slot
}

func openBoard(path string) (*board, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n := int(unsafe.Sizeof(board{}))
	if err := f.Truncate(int64(n)); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*board)(unsafe.Pointer(&b[0])), nil
}

// pattern fills a block with what says which slot it is and in which round it was written.
func pattern(b []byte, slot, round uint64) {
	for i := 0; i+16 <= len(b); i += 16 {
		binary.LittleEndian.PutUint64(b[i:], slot)
		binary.LittleEndian.PutUint64(b[i+8:], round)
	}
}

// directBlock is memory for direct I/O.
func directBlock() ([]byte, error) {
	return unix.Mmap(-1, 0, ioBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// TestGuest_writer is the process that stands for a VM: it has the device open and writes it all the time, directly, as far as it reaches.
func TestGuest_writer(t *testing.T) {
	path := os.Getenv(envWriter)
	if path == "" {
		t.Skip("a part of the others")
	}
	stride, err := strconv.ParseInt(os.Getenv(envStride), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBoard(boardPath)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_SYNC|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := directBlock()
	if err != nil {
		t.Fatal(err)
	}
	for round := uint64(1); ; round++ {
		for slot := int64(0); slot < slots && b.stop.Load() == 0; slot++ {
			size, err := unix.Seek(fd, 0, 2)
			if err != nil {
				t.Fatal(err)
			}
			b.size.Store(uint64(size))
			at := firstSlot + slot*stride
			if at+ioBlock > size {
				break
			}
			// What a killed writer has left is told from this one's by the round.
			next := max(round, b.rounds[slot].Load()+1)
			pattern(mem, uint64(slot), next)
			n, err := unix.Pwrite(fd, mem, at)
			if err != nil || n != ioBlock {
				errno, _ := err.(unix.Errno)
				b.errno.Store(uint64(max(errno, 1)))
				return
			}
			b.rounds[slot].Store(next)
			b.writes.Add(1)
		}
		if b.stop.Load() != 0 {
			return
		}
	}
}

const boardPath = "/tmp/board"

// writer is that process.
type writer struct {
	t      *testing.T
	board  *board
	cmd    *exec.Cmd
	stride int64
}

// startWriter lets half of the slots lie in the size given.
func startWriter(t *testing.T, path string, stride int64) *writer {
	t.Helper()
	b, err := openBoard(boardPath)
	if err != nil {
		t.Fatal(err)
	}
	b.stop.Store(0)
	b.errno.Store(0)
	w := &writer{t: t, board: b, stride: stride, cmd: exec.Command(os.Args[0], "-test.run", "^TestGuest_writer$")}
	w.cmd.Env = append(os.Environ(), envWriter+"="+path, envStride+"="+strconv.FormatInt(stride, 10))
	w.cmd.Stderr = os.Stderr
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.cmd.Process.Kill() }) // it cannot be waited for while its device is frozen
	w.moves()
	return w
}

// moves waits until it has written some more.
func (w *writer) moves() {
	w.t.Helper()
	from := w.board.writes.Load()
	for end := time.Now().Add(patience); w.board.writes.Load() < from+20; time.Sleep(20 * time.Millisecond) {
		if e := w.board.errno.Load(); e != 0 {
			w.t.Fatalf("a write failed: %v", unix.Errno(e))
		}
		if time.Now().After(end) {
			w.t.Fatalf("the writer stands still after %d writes", from)
		}
	}
}

// still looks whether it writes nothing more from now on, for a while.
func (w *writer) still() {
	w.t.Helper()
	from := w.board.writes.Load()
	time.Sleep(2 * time.Second)
	if now := w.board.writes.Load(); now != from {
		w.t.Errorf("%d writes passed", now-from)
	}
}

// awaitError waits until a write fails, which ends the writer.
func (w *writer) awaitError() unix.Errno {
	w.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if e := w.board.errno.Load(); e != 0 {
			_ = w.cmd.Wait()
			return unix.Errno(e)
		}
	}
	w.t.Fatal("no write fails")
	return 0
}

// end lets it end in order.
func (w *writer) end() {
	w.t.Helper()
	w.board.stop.Store(1)
	if err := w.cmd.Wait(); err != nil {
		w.t.Errorf("the writer: %v", err)
	}
}

// check reads back every block that was acknowledged; the one write that was under way when the writer ended may be there or not.
func (w *writer) check(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	got, err := directBlock()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(got) }()
	want := make([]byte, ioBlock)
	for slot := range w.board.rounds {
		acked := w.board.rounds[slot].Load()
		if acked == 0 {
			continue
		}
		if _, err := unix.Pread(fd, got, firstSlot+int64(slot)*w.stride); err != nil {
			return fmt.Errorf("slot %d: %w", slot, err)
		}
		round := binary.LittleEndian.Uint64(got[8:])
		if pattern(want, uint64(slot), round); !bytes.Equal(got, want) || round < acked || round > acked+1 {
			return fmt.Errorf("slot %d has round %d of slot %d, acknowledged is %d", slot, round, binary.LittleEndian.Uint64(got), acked)
		}
	}
	return nil
}

// slotsWritten counts the slots that hold data.
func (w *writer) slotsWritten() (n int) {
	for slot := range w.board.rounds {
		if w.board.rounds[slot].Load() > 0 {
			n++
		}
	}
	return n
}
