package interop

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// What the hook does to the daemon at the chosen write.
const (
	killBefore = 1 // SIGKILL, and the write is never submitted
	killAfter  = 2 // SIGKILL, and the write lands
	stall      = 3 // the write waits for release
)

// hook is the page that testdata/shim.c reads: state, from, to, pass, action, go, seen.
type hook struct {
	path string
	page []byte
}

func newHook(t testing.TB, path string) *hook {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(page) })
	return &hook{path: path, page: page}
}

func (h *hook) word(i int) *uint64 { return (*uint64)(unsafe.Pointer(&h.page[8*i])) }

// arm chooses the write after the next pass ones that begin in [from, to).
func (h *hook) arm(from, to int64, pass, action int) {
	for i, v := range []uint64{0, uint64(from), uint64(to), uint64(pass), uint64(action), 0, 0} {
		atomic.StoreUint64(h.word(i), v)
	}
	atomic.StoreUint64(h.word(0), 1)
}

// fired says whether the chosen write has come.
func (h *hook) fired() bool { return atomic.LoadUint64(h.word(0)) == 2 }

// wait waits for the chosen write.
func (h *hook) wait(t testing.TB) {
	t.Helper()
	testutil.Retry(t, 20*time.Second, func() error {
		if !h.fired() {
			return errors.New("the daemon did not come to the chosen write")
		}
		return nil
	})
}

// release ends a stall.
func (h *hook) release() { atomic.StoreUint64(h.word(5), 1) }
